"""Who waits for what to change, within this process."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator


class Watchers:
    """Bells by topic. Ring first, look then: whoever waits clears its bell before it looks."""

    def __init__(self) -> None:
        self._bells: defaultdict[Hashable, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def watching(self, topic: Hashable) -> Iterator[asyncio.Event]:
        """Return a bell that rings whenever the topic changed, within the block."""
        bell = asyncio.Event()
        self._bells[topic].add(bell)
        try:
            yield bell
        finally:
            self._bells[topic].discard(bell)
            if not self._bells[topic]:
                del self._bells[topic]

    def ring(self, topic: Hashable) -> None:
        """Wake all that watch the topic."""
        for bell in self._bells.get(topic, ()):
            bell.set()


async def heard(bell: asyncio.Event, timeout: float) -> bool:  # noqa: ASYNC109 (a time-out is an answer here)
    """Return whether the bell rang within so many seconds."""
    try:
        async with asyncio.timeout(timeout):
            await bell.wait()
    except TimeoutError:
        return False
    return True
