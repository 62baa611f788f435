"""Which files are asked for: by whom of this moment, and on which day last."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from dpud.archive.coldlist import Uses

#: Longer than this nobody takes to read a file, or to link it, that was found for him.
RECENT = timedelta(minutes=10)
#: Nobody waits for the days to be written down: a crash loses a minute of them.
SAVE_EVERY_S = 60.0


class Usage:
    """What was asked for lately and is not written down yet."""

    def __init__(self, uses: Uses, clock: Callable[[], datetime]) -> None:
        self._uses = uses
        self._clock = clock
        #: When each was asked for last, the longest ago first.
        self._recent: dict[str, datetime] = {}
        self._unsaid: set[str] = set()

    def note(self, digest: str) -> None:
        """Note that a file is asked for now."""
        now = self._clock()
        self._recent.pop(digest, None)
        self._recent[digest] = now
        self._unsaid.add(digest)
        while self._recent[oldest := next(iter(self._recent))] < now - RECENT:
            del self._recent[oldest]

    def is_recent(self, digest: str) -> bool:
        """Return whether somebody may be reading a file still."""
        return self._recent.get(digest, self._clock() - 2 * RECENT) >= self._clock() - RECENT

    async def save(self) -> None:
        """Write the days down. Raises StorageFull and Unreachable; nothing is lost then."""
        unsaid, self._unsaid = self._unsaid, set()
        if not unsaid:
            return
        try:
            await asyncio.to_thread(self._uses.note, unsaid, self._clock().date())
        except BaseException:
            self._unsaid |= unsaid
            raise
