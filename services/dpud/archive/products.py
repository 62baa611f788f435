"""Takes in the products of tasks, and does what the scheduler says of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from dpu.errors import BadFrame
from dpud.archive.naming import product_name
from dpud.archive.reception import Received, check

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime
    from pathlib import Path

    from dpu_recipes.frames import Frame
    from dpud.archive.catalogue import Ledger, Memory
    from dpud.archive.holdings import Holdings
    from dpud.archive.reception import Reception
    from dpud.archive.records import Attempt, Record

log = structlog.get_logger(__name__)

#: How long a product lives that nobody publishes.
LIFETIME = timedelta(days=7)
#: How often those are looked for.
SWEEP_EVERY_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Products:
    """The way of products into the archive, to the project's eyes, and out again."""

    ledger: Ledger
    memory: Memory
    holdings: Holdings
    reception: Reception
    clock: Callable[[], datetime]
    #: Makes an identifier that no other product has.
    new_id: Callable[[], str]

    async def read(self, record: Record, path: Path) -> Record:
        """Take in a product whose file can be read in place, as `stage` does."""
        size = await asyncio.to_thread(check, path)
        # Its digest is taken while it is copied.
        return await self.stage(record, Received(path, record.frame.digest, size))

    async def receive(self, record: Record, chunks: AsyncIterator[bytes]) -> Record:
        """Take in a product whose file comes as a stream of bytes, as `stage` does."""
        async with self.reception.room() as room:
            return await self.stage(record, await self.reception.receive(chunks, room / "product"), ours=True)

    async def stage(self, record: Record, file: Received | None, *, ours: bool = False) -> Record:
        """Take in a product, durably, and return it as it stands; repeated, the same one.

        Raises BadFrame where the file is not what the frame announces, StorageFull, StaleLease and Conflict.
        """
        _check_announced(record.frame, file)
        named = self._named(record)
        files = {file.digest: file.file} if file is not None else {}
        change = await self.holdings.keep(files, lambda: self.ledger.stage(named), ours=ours)
        await self.holdings.drop(change.freed)
        return change.records[0]

    async def publish(self, attempt: Attempt, *, commit: bool) -> list[Record]:
        """Make an attempt's products the project's, or leave them the job's own; return them."""
        change = await asyncio.to_thread(self.ledger.publish, attempt, commit=commit)
        await self.holdings.drop(change.freed)
        return change.records

    async def discard(self, attempt: Attempt) -> None:
        """Remove an attempt's products."""
        change = await asyncio.to_thread(self.ledger.discard, attempt)
        await self.holdings.drop(change.freed)

    async def expire(self) -> int:
        """Remove products that nobody published for LIFETIME, and return how many there were."""
        change = await asyncio.to_thread(self.ledger.expire, self.clock() - LIFETIME)
        await self.holdings.drop(change.freed)
        if change.records:
            log.info("expired", products=len(change.records))
        return len(change.records)

    def _named(self, record: Record) -> Record:
        identifier = self.new_id()
        name = product_name(record.frame, record.user, identifier)
        return record.evolve(
            frame=record.frame.evolve(id=identifier, file_name=name, creation_date=self.clock()), published=False
        )


def _check_announced(frame: Frame, file: Received | None) -> None:
    announced = (frame.digest, frame.size)
    found = (file.digest, file.size) if file is not None else ("", 0)
    if announced != found:
        raise BadFrame(
            f"the file of a {frame.frame_class} has {found[1]} bytes and digest {found[0]!r}, "
            f"not {announced[1]} and {announced[0]!r} as announced: send it again"
        )
