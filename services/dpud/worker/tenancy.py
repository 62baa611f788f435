"""One user at a time, where task processes share a container that cannot keep users apart."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Tenancy:
    """Who lives there; another user moves in when the last task of the one before has left, in order of arrival."""

    def __init__(self, move_in: Callable[[str], Awaitable[None]]) -> None:
        self._move_in = move_in
        self._user: str | None = None
        self._tasks = 0
        self._turn = asyncio.Lock()
        self._empty = asyncio.Event()
        self._empty.set()

    async def enter(self, user: str) -> None:
        """Wait until `user` may have a task there. Those who come later wait behind."""
        async with self._turn:
            if user != self._user:
                await self._empty.wait()
                self._user = None
                await self._move_in(user)
                self._user = user
            self._tasks += 1
            self._empty.clear()

    def leave(self) -> None:
        """Note that a task has ended, and nothing of it runs."""
        self._tasks -= 1
        if not self._tasks:
            self._empty.set()
