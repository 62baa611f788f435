"""Keeps an identifier from being given twice: a journal that came from a backup does not know all jobs there were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpud.scheduler.commands import Pass

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dpud.scheduler.loop import Loop


class Numbers:
    """Asks once, before the first job is taken, which job is the highest that others know."""

    def __init__(self, loop: Loop, highest: Callable[[], Awaitable[int]]) -> None:
        self._loop = loop
        self._highest = highest
        self._secure = False

    async def secure(self) -> None:
        """Return when no identifier can be given that others know. Raises DpuError where they do not answer."""
        if not self._secure:
            await self._loop.execute(Pass(await self._highest()))
            self._secure = True
