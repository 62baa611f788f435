"""A worker that ends by itself: started for work that a queue held, gone when it has had none for a while."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)

#: How often it is looked whether there is work.
LOOK_S = 0.25


async def retire(is_busy: Callable[[], bool], idle_s: float, stop: asyncio.Event) -> None:
    """Set `stop` when there has been no work for `idle_s` seconds."""
    loop = asyncio.get_running_loop()
    busy = loop.time()
    while (now := loop.time()) - busy < idle_s:
        busy = now if is_busy() else busy
        await asyncio.sleep(min(LOOK_S, idle_s))
    log.info("no work: this worker ends", idle_s=idle_s)
    stop.set()
