"""What the archive does beside calls, again and again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from dpu.errors import StorageFull, Unreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = structlog.get_logger(__name__)


async def attempt(chore: Callable[[], Awaitable[object]]) -> None:
    """Do a chore, or say that there was no room for it, or no answer: it is done the next time."""
    try:
        await chore()
    except (StorageFull, Unreachable) as error:
        log.warning("put off", chore=getattr(chore, "__qualname__", ""), error=error.message)


async def repeat(chore: Callable[[], Awaitable[object]], every_s: float) -> None:
    """Do a chore now, and again whenever so many seconds have passed."""
    while True:
        await attempt(chore)
        await asyncio.sleep(every_s)
