"""The warm tier and the cold one: what is seldom used is packed away, and comes back when somebody asks for it.

A frame is whole in one tier at any moment. On its way to the cold tier it is packed, put there, unpacked from there
and compared, noted, and only then taken from the warm one; on its way back it is durable in the warm tier before it is
taken from the cold one. What a killed process leaves in both is settled by the sweep (dpud.archive.holdings).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, NamedTuple
from weakref import WeakValueDictionary

import structlog

from dpu.errors import BadFrame, InternalError, NotFound
from dpud.archive.holdings import unbroken
from dpud.archive.reception import lent
from dpud.archive.records import View

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from dpud.archive.catalogue import Catalogue
    from dpud.archive.coldlist import Totals
    from dpud.archive.holdings import Holdings
    from dpud.archive.reception import Reception
    from dpud.archive.records import Record
    from dpud.archive.seldom import Seeker, Seldom
    from dpud.archive.splitter import Splitter
    from dpud.archive.usage import Usage
    from dpud.hosting.caller import Caller

log = structlog.get_logger(__name__)

#: How often the figures of the tiers are renewed: at a million frames that takes a second.
COUNT_EVERY_S = 900.0


class Moved(NamedTuple):
    """What became of one file that was to go to the other tier."""

    record: Record
    #: Bytes that it takes in the tier where it is now; those of a trial run are not known before.
    stored: int = 0
    #: Why it stays where it was; '' where it does not.
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiers:
    """The way of files between the tiers, and to whoever reads them."""

    catalogue: Catalogue
    holdings: Holdings
    splitter: Splitter
    reception: Reception
    seeker: Seeker
    usage: Usage
    #: Who reads a file, thaws it or takes it from the warm tier, does so by turns.
    _turns: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    #: How many read each file at this moment.
    _open: Counter[str] = field(default_factory=Counter)
    #: One file is packed at a time: what comes in must not be kept waiting.
    _packing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @asynccontextmanager
    async def reading(self, digest: str) -> AsyncIterator[BinaryIO]:
        """Open a file until the block ends; one that is frozen is thawed first. Raises NotFound and StorageFull.

        As long as that, and for ten minutes from now on, it stays in the warm tier.
        """
        async with self._turn(digest):
            self.usage.note(digest)
            try:
                file = await self._opened(digest)
            except NotFound:
                await unbroken(self._thaw(digest))
                file = await self._opened(digest)
            self._open[digest] += 1
        try:
            with file:
                yield file
        finally:
            self._open[digest] -= 1
            if not self._open[digest]:
                del self._open[digest]

    async def _opened(self, digest: str) -> BinaryIO:
        """Return an open file; where nobody waits for it any more, it is closed as soon as it is open."""
        opening = asyncio.get_running_loop().run_in_executor(None, self.holdings.store.open, digest)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_closed)
            raise

    async def freeze(self, caller: Caller, seldom: Seldom, *, trial: bool) -> AsyncIterator[Moved]:
        """Pack files away, and give what became of each. Raises BadOption, NothingSelected and StorageFull.

        A trial says which they would be. Whoever goes away ends it behind the file that is being packed.
        """
        await self.usage.save()
        async for record in self._found(caller, seldom, frozen=False):
            yield Moved(record) if trial else await unbroken(self._freeze(record))

    async def thaw(self, caller: Caller, seldom: Seldom, *, trial: bool) -> AsyncIterator[Moved]:
        """Bring files back, and give what became of each. Raises as `freeze` does."""
        await self.usage.save()
        async for record in self._found(caller, seldom, frozen=True):
            yield Moved(record) if trial else await self._bring(record)

    async def totals(self, project: str = "") -> Totals:
        """Return how much there is in each tier, of a project or of all."""
        return await asyncio.to_thread(self.holdings.cold_list.totals, project)

    async def _found(self, caller: Caller, seldom: Seldom, *, frozen: bool) -> AsyncIterator[Record]:
        pages = self.seeker.pages(View(caller.project, user=caller.user), seldom, frozen=frozen)
        while page := await asyncio.to_thread(next, pages, None):
            for record in page:
                yield record

    @asynccontextmanager
    async def _turn(self, digest: str) -> AsyncIterator[None]:
        async with self._turns.setdefault(digest, asyncio.Lock()):
            yield

    async def _freeze(self, record: Record) -> Moved:
        """Pack a file away, if it comes back to the byte. Raises StorageFull and Unreachable."""
        try:
            async with self._packing, self.reception.room() as room:
                stored = await self._pack(record, room)
                await self._leave(record.frame.digest, stored, room)
        except (BadFrame, NotFound) as error:
            return Moved(record, record.frame.size, error.message)
        log.info("frozen", name=record.frame.file_name, size=record.frame.size, stored=stored)
        return Moved(record, stored)

    async def _pack(self, record: Record, room: Path) -> int:
        """Pack a file into a room, and return how large it is then. Raises BadFrame where nothing is won by it."""
        digest, size = record.frame.digest, record.frame.size
        if await asyncio.to_thread(self.holdings.cold_list.frozen, [digest]):
            raise BadFrame("somebody else has frozen it meanwhile")
        file = await lent(self.holdings.store, digest, room / "frame")
        stored = await self.splitter.pack(file, record.frame.file_name, room / "packed")
        if stored >= size:
            raise BadFrame(f"packed, it takes {stored:,} bytes instead of {size:,}")
        return stored

    async def _leave(self, digest: str, stored: int, room: Path) -> None:
        """Put a packed file into the cold tier, and take it from the warm one.

        It stays there where it would not come back, or is being read (BadFrame), or was deleted (NotFound).
        """
        held = self.holdings
        await asyncio.to_thread(held.cold.put, room / "packed", digest, ours=True)
        async with AsyncExitStack() as undoing:
            # As long as it is not noted, nobody looks for it there.
            undoing.push_async_callback(asyncio.to_thread, held.cold.remove, digest)
            if await self._unpack(digest, room) != digest:
                raise BadFrame("unpacked, it would not be what it was to the byte")
            async with self._turn(digest):
                if self._open[digest] or self.usage.is_recent(digest):
                    raise BadFrame("it is being read")
                if not await asyncio.to_thread(held.cold_list.freeze, digest, stored):
                    raise NotFound("it was deleted meanwhile")
                undoing.pop_all()
                await asyncio.to_thread(held.store.remove, digest)

    async def _bring(self, record: Record) -> Moved:
        try:
            # Who asks for it to be thawed is going to read it.
            async with self.reading(record.frame.digest):
                return Moved(record, record.frame.size)
        except (NotFound, InternalError) as error:
            return Moved(record, reason=error.message)

    async def _thaw(self, digest: str) -> None:
        """Bring a file back into the warm tier. Raises NotFound where it is in none, InternalError of a damaged one."""
        async with self.reception.room() as room:
            try:
                found = await self._unpack(digest, room)
            except BadFrame as error:
                found = error.message
            if found != digest:
                raise InternalError(f"the cold file {digest} is damaged ({found}): bring it back from a backup")
            await self.holdings.keep({digest: room / "unpacked"}, lambda: self._thawed(digest), ours=True)
        await asyncio.to_thread(self.holdings.cold.remove, digest)
        log.info("thawed", digest=digest)

    def _thawed(self, digest: str) -> None:
        if self.catalogue.unnamed([digest]):
            raise NotFound(f"no frame has digest {digest!r} any more")
        self.holdings.cold_list.thaw(digest)

    async def _unpack(self, digest: str, room: Path) -> str:
        """Unpack what lies in the cold tier into a room, and return the digest of what came out."""
        packed = await lent(self.holdings.cold, digest, room / "brought")
        return await self.splitter.unpack(packed, digest, room / "unpacked")


def _closed(opening: asyncio.Future[BinaryIO]) -> None:
    if opening.exception() is None:
        opening.result().close()
