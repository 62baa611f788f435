"""Takes in raw exposures: split a chip, files made durable, all frames visible in one step."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import structlog

from dpud.archive.reception import check, examine
from dpud.archive.records import Query, Record, View

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from dpu_recipes.frames import Frame
    from dpud.archive.catalogue import Catalogue, Ledger
    from dpud.archive.holdings import Holdings
    from dpud.archive.reception import Received, Reception
    from dpud.archive.splitter import Offered, Splitter
    from dpud.hosting.caller import Caller

log = structlog.get_logger(__name__)

#: Endings of files that take longer to unpack than to hash.
_PACKED = frozenset({".fz", ".gz"})
#: More chips than any camera has.
_CHIPS = 10_000


class Part(NamedTuple):
    """One of several files that come in together: where it can be read, or else its bytes."""

    frame_class: str
    name: str
    path: Path | None
    chunks: AsyncIterator[bytes]


class Ingested(NamedTuple):
    """The frames of an exposure, and whether the archive had all of them before."""

    records: list[Record]
    already: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """The way of raw exposures into the archive."""

    catalogue: Catalogue
    ledger: Ledger
    holdings: Holdings
    splitter: Splitter
    reception: Reception
    clock: Callable[[], datetime]

    async def read(self, caller: Caller, offered: Offered, path: Path) -> Ingested:
        """Ingest a file in place. Raises BadFrame and StorageFull; nothing is left then."""
        await asyncio.to_thread(check, path)
        async with self.reception.room() as room:
            if path.suffix in _PACKED:
                return await self._ingest(caller, offered, await asyncio.to_thread(examine, path), room)
            # Hashed once, a chip at a time: its frames tell almost as soon that it was here before.
            return await self._keep(caller, offered, "", await self.splitter.split(path, offered, room))

    async def receive(self, caller: Caller, offered: Offered, chunks: AsyncIterator[bytes]) -> Ingested:
        """Ingest a stream of bytes. Raises BadFrame and StorageFull; nothing is left then."""
        async with self.reception.room() as room:
            return await self._ingest(caller, offered, await self.reception.receive(chunks, room / "exposure"), room)

    async def adopt(self, caller: Caller, offered: Offered, parts: AsyncIterator[Part]) -> Ingested:
        """Ingest a file that was reduced elsewhere, and what belongs to it, all or none. Raises as `read` does."""
        async with self.reception.room() as room:
            files: list[tuple[str, str, str]] = []
            async for part in parts:
                path = part.path
                if path is None:
                    path = (await self.reception.receive(part.chunks, room / f"part{len(files)}")).file
                else:
                    await asyncio.to_thread(check, path)
                files.append((part.frame_class, str(path), part.name))
            (_, image, _), *companions = files
            whole = offered._replace(companions=tuple(companions))
            pairs = await self.splitter.split(Path(image), whole, room)
            return await self._keep(caller, offered, "", pairs)

    async def _ingest(self, caller: Caller, offered: Offered, exposure: Received, room: Path) -> Ingested:
        """Ingest a file whose digest is known, which saves unpacking it a second time."""
        before = Query(view=View(caller.project), source=exposure.digest)
        if known := await asyncio.to_thread(self.catalogue.select, before, limit=_CHIPS):
            return Ingested(known, already=True)
        pairs = await self.splitter.split(exposure.file, offered, room)
        return await self._keep(caller, offered, exposure.digest, pairs)

    async def _keep(self, caller: Caller, offered: Offered, source: str, pairs: list[tuple[Frame, Path]]) -> Ingested:
        files = {frame.digest: file for frame, file in pairs}
        records = [self._record(caller, source, frame) for frame, _ in pairs]
        view, ids = View(caller.project), [record.frame.id for record in records]
        # In one turn of one thread: where files are small, going from thread to thread is most of the work.
        added, stored = await self.holdings.keep(
            files, lambda: (self.ledger.add(records), self.catalogue.find(view, ids)), ours=True
        )
        log.info(
            "ingested", name=offered.name, frames=len(records), added=added, project=caller.project, user=caller.user
        )
        return Ingested(sorted(stored, key=lambda record: record.sequence), already=added == 0)

    def _record(self, caller: Caller, source: str, frame: Frame) -> Record:
        return Record(
            frame=frame.evolve(creation_date=self.clock()),
            project=caller.project,
            user=caller.user,
            source=source,
        )
