"""Keeps files and records in step: a file is durable before a record names it, and gone when none does."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping
    from pathlib import Path

    from dpud.archive.catalogue import Catalogue
    from dpud.archive.store import Store

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Files that the sweeper asks the catalogue about at a time.
_BATCH = 1000


class Holdings:
    """The store, guarded so that no file goes while a record of it is on its way in."""

    def __init__(self, store: Store, catalogue: Catalogue) -> None:
        self.store = store
        self._catalogue = catalogue
        self._coming: Counter[str] = Counter()
        self._removing = asyncio.Lock()

    async def keep(self, files: Mapping[str, Path], record: Callable[[], T], *, ours: bool = False) -> T:
        """Take in files by digest, durably, then record them; return what `record` returns.

        When either fails, the files go again. A caller that goes away meanwhile does not break this off.
        """
        return await _unbroken(self._keep(files, record, ours=ours))

    async def drop(self, digests: Collection[str]) -> None:
        """Remove those of the files that no record names and nobody is taking in."""
        async with self._removing:
            free = {digest for digest in digests if not self._coming[digest]}
            if free:
                await asyncio.to_thread(self._remove, free)

    async def sweep(self) -> int:
        """Remove every file that no record names, and return how many: what a killed process left behind."""
        removed = 0
        digests = self.store.digests(settled=True)
        while batch := await asyncio.to_thread(lambda: list(islice(digests, _BATCH))):
            async with self._removing:
                free = {digest for digest in batch if not self._coming[digest]}
                removed += await asyncio.to_thread(self._remove, free)
        if removed:
            log.info("swept", orphans=removed)
        return removed

    async def _keep(self, files: Mapping[str, Path], record: Callable[[], T], *, ours: bool) -> T:
        # From here on no removal that has not begun takes these.
        async with self._removing:
            self._coming.update(files.keys())
        try:
            await self._put(files, ours=ours)
            kept = await asyncio.to_thread(record)
        except BaseException:
            self._release(files.keys())
            await self.drop(files.keys())
            raise
        self._release(files.keys())
        return kept

    async def _put(self, files: Mapping[str, Path], *, ours: bool) -> None:
        puts = (asyncio.to_thread(self.store.put, file, digest, ours=ours) for digest, file in files.items())
        # All of them end before the first failure is told: nobody writes behind a clean-up's back.
        for outcome in await asyncio.gather(*puts, return_exceptions=True):
            if outcome is not None:
                raise outcome

    def _release(self, files: Collection[str]) -> None:
        self._coming.subtract(files)
        self._coming += Counter()

    def _remove(self, digests: Collection[str]) -> int:
        unnamed = self._catalogue.unnamed(digests)
        for digest in unnamed:
            self.store.remove(digest)
        return len(unnamed)


async def _unbroken(work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns; a cancel takes effect only when it has ended."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise
