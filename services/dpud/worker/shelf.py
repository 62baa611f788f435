"""A folder of things that can be had again: used ones stay, the ones unused longest go when it is too full."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
    from pathlib import Path


class Shelf:
    """Things by key, each with its size; `remove` takes one from the disk."""

    def __init__(self, capacity: int, remove: Callable[[str], None], there: Iterable[tuple[str, int]] = ()) -> None:
        self._capacity = capacity
        self._remove = remove
        # In order of use, the newest at the end.
        self._sizes = dict(there)
        self._users: dict[str, int] = {}
        self._making: dict[str, asyncio.Lock] = {}
        self._make_room()

    @asynccontextmanager
    async def holding(self, key: str, make: Callable[[], Awaitable[int]]) -> AsyncIterator[None]:
        """Keep `key` on the shelf during the block; `make` puts it there first where it is not, and returns its size.

        It is made once, however many ask at the same time.
        """
        with self._used(key):
            async with self._making.setdefault(key, asyncio.Lock()):
                size = self._sizes.pop(key, None)
                self._sizes[key] = await make() if size is None else size
            self._make_room()
            yield

    @contextmanager
    def keeping(self, key: str) -> Iterator[None]:
        """Keep `key`, which is on the shelf, there during the block."""
        with self._used(key):
            self._sizes[key] = self._sizes.pop(key)
            yield

    @contextmanager
    def _used(self, key: str) -> Iterator[None]:
        """Note that `key` has one user more during the block."""
        self._users[key] = self._users.get(key, 0) + 1
        try:
            yield
        finally:
            self._put_back(key)

    def _put_back(self, key: str) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self._making.pop(key, None)
            self._make_room()

    def _make_room(self) -> None:
        excess = sum(self._sizes.values()) - self._capacity
        for key in [key for key in self._sizes if key not in self._users]:
            if excess <= 0:
                return
            excess -= self._sizes.pop(key)
            self._remove(key)

    def __contains__(self, key: str) -> bool:
        """Return whether `key` is there."""
        return key in self._sizes

    @property
    def keys(self) -> list[str]:
        """What is there, in order of use."""
        return list(self._sizes)


def by_use(folder: Path, pattern: str, size: Callable[[Path], int]) -> list[tuple[str, int]]:
    """Return name and size of what an earlier run left in `folder`, the one used last at the end."""
    found = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)
    return [(path.name, size(path)) for path in found]
