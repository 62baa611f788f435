"""Keeps files and records in step: a file is durable before a record names it, and gone when none does.

A file lies in the warm tier, as it is, or in the cold one, packed, under the same digest: that of its own bytes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from dpu.errors import NotFound
from dpud.archive.store import PIECE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping
    from pathlib import Path

    from dpud.archive.catalogue import Catalogue
    from dpud.archive.coldlist import ColdList
    from dpud.archive.store import Store

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Files that the sweeper asks the catalogue about at a time.
_BATCH = 1000


class Holdings:
    """The stores of both tiers, guarded so that no file goes while a record of it is on its way in."""

    def __init__(self, store: Store, catalogue: Catalogue, *, cold: Store, cold_list: ColdList) -> None:
        #: The warm tier's, and the cold one's with what the catalogue notes of it.
        self.store = store
        self.cold = cold
        self.cold_list = cold_list
        self._catalogue = catalogue
        self._coming: Counter[str] = Counter()
        self._removing = asyncio.Lock()

    async def keep(self, files: Mapping[str, Path], record: Callable[[], T], *, ours: bool = False) -> T:
        """Take in files by digest, durably, then record them; return what `record` returns.

        When either fails, the files go again. A caller that goes away meanwhile does not break this off.
        """
        return await unbroken(self._keep(files, record, ours=ours))

    async def drop(self, digests: Collection[str]) -> None:
        """Remove those of the files that no record names and nobody is taking in."""
        async with self._removing:
            free = {digest for digest in digests if not self._coming[digest]}
            if free:
                await whole(partial(self._remove, self.store, free))

    async def sweep(self) -> int:
        """Remove every file that no record names, and return how many: what a killed process left behind.

        Of a file that was killed on its way from one tier to the other, one of both is left.
        """
        removed = await self._sweep(self.store, self._settle_warm) + await self._sweep(self.cold, self._settle_cold)
        if removed:
            log.info("swept", orphans=removed)
        return removed

    async def _sweep(self, store: Store, settle: Callable[[set[str]], None]) -> int:
        """Remove the orphans of one store; `settle` is given the others."""
        removed = 0
        digests = store.digests(settled=True)
        while batch := await asyncio.to_thread(lambda: list(islice(digests, _BATCH))):
            async with self._removing:
                free = {digest for digest in batch if not self._coming[digest]}
                unnamed = await asyncio.to_thread(self._remove, store, free)
                await asyncio.to_thread(settle, free - unnamed)
                removed += len(unnamed)
        return removed

    def _settle_warm(self, digests: set[str]) -> None:
        """Leave what is noted as frozen, and is, to the cold tier."""
        for digest in self.cold_list.frozen(digests):
            if _holds(self.cold, digest):
                self.store.remove(digest)
            else:
                self.cold_list.thaw(digest)

    def _settle_cold(self, digests: set[str]) -> None:
        """Leave what is not noted as frozen to the warm tier, or note it: the catalogue may be from before."""
        for digest in digests - self.cold_list.frozen(digests):
            if _holds(self.store, digest):
                self.cold.remove(digest)
            else:
                self.cold_list.freeze(digest, _size(self.cold, digest))

    async def _keep(self, files: Mapping[str, Path], record: Callable[[], T], *, ours: bool) -> T:
        # From here on no removal that has not begun takes these.
        async with self._removing:
            self._coming.update(files.keys())
        try:
            kept = await self._settled(files, record, ours=ours)
        except BaseException:
            self._release(files.keys())
            await self.drop(files.keys())
            raise
        self._release(files.keys())
        return kept

    async def _settled(self, files: Mapping[str, Path], record: Callable[[], T], *, ours: bool) -> T:
        """Put the files, then record them: several beside each other, one and its record in one turn of a thread."""
        if len(files) > 1:
            await self._put(files, ours=ours)
            return await whole(record)

        def one_by_one() -> T:
            for digest, file in files.items():
                self.store.put(file, digest, ours=ours)
            return record()

        return await whole(one_by_one)

    async def _put(self, files: Mapping[str, Path], *, ours: bool) -> None:
        puts = (whole(partial(self.store.put, file, digest, ours=ours)) for digest, file in files.items())
        # All of them end before the first failure is told: nobody writes behind a clean-up's back.
        for outcome in await asyncio.gather(*puts, return_exceptions=True):
            if outcome is not None:
                raise outcome

    def _release(self, files: Collection[str]) -> None:
        self._coming.subtract(files)
        self._coming += Counter()

    def _remove(self, store: Store, digests: Collection[str]) -> set[str]:
        """Remove those that no record names from a store, and where they are noted as frozen; return them."""
        unnamed = self._catalogue.unnamed(digests)
        for digest in unnamed:
            store.remove(digest)
        for digest in self.cold_list.forget(unnamed) if unnamed else ():
            self.cold.remove(digest)
        return unnamed


def _holds(store: Store, digest: str) -> bool:
    try:
        store.open(digest).close()
    except NotFound:
        return False
    return True


def _size(store: Store, digest: str) -> int:
    with store.open(digest) as reading:
        return sum(map(len, iter(partial(reading.read, PIECE), b"")))


async def unbroken(work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns; a cancel takes effect only when it has ended."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


async def whole(work: Callable[[], T]) -> T:
    """Return what `work` returns, done in a thread; a cancel waits for its end, and where it ended well is forgotten.

    No thread can be broken off. Who went on without it would remove a file of which it is about to write the record.
    """
    doing = asyncio.get_running_loop().run_in_executor(None, copy_context().run, work)
    while not doing.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([doing])
    return doing.result()
