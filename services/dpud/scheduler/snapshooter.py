"""Makes a snapshot of a journal and drops what it replaces: a process of its own, beside the scheduler.

`python -m dpud.scheduler.snapshooter EPOCH`, with the database's URL on the standard input: it may hold a secret.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import structlog

from dpud.hosting.children import send_signal
from dpud.hosting.logsetup import set_up_logging
from dpud.scheduler.database import open_engine
from dpud.scheduler.journal import Superseded
from dpud.scheduler.snapshot_sql import shorten

if TYPE_CHECKING:
    from dpud.scheduler.journal_sql import SqlJournal
    from dpud.scheduler.loop import Loop

log = structlog.get_logger(__name__)

#: A journal with fewer events behind its last snapshot is replayed in a moment.
LEAST_EVENTS = 100_000
LOOK_S = 1.0


class Snapshooter:
    """Starts the process whenever the journal is long for what it tells."""

    def __init__(
        self, loop: Loop, journal: SqlJournal, *, least_events: int = LEAST_EVENTS, look_s: float = LOOK_S
    ) -> None:
        self._loop = loop
        self._journal = journal
        self._least_events = least_events
        self._look_s = look_s

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            if self._loop.tail >= self._least_events and self._loop.tail >= self._tasks():
                before = self._loop.tail
                await self._shorten()
                self._loop.tail -= before
            await asyncio.sleep(self._look_s)

    def _tasks(self) -> int:
        """Return how large a snapshot would be: one is worth it when as much has happened since the last."""
        return sum(job.counts.total for job in self._loop.state.jobs.values())

    async def _shorten(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dpud.scheduler.snapshooter", str(self._journal.epoch)),
            stdin=asyncio.subprocess.PIPE,
        )
        try:
            await process.communicate(self._journal.url.encode())
        except asyncio.CancelledError:
            send_signal(process, signal.SIGKILL)
            await process.wait()
            raise
        if process.returncode:
            log.error("no snapshot was made: the journal stays long", exit_code=process.returncode)


def main() -> int:
    """Shorten one journal; 3 where another scheduler writes it by now."""
    set_up_logging("snapshooter", readable=sys.stderr.isatty())
    os.nice(10)
    try:
        number = shorten(open_engine(sys.stdin.read()), int(sys.argv[1]))
    except Superseded:
        log.warning("the journal is another scheduler's by now")
        return 3
    log.info("journal shortened", last_group=number)
    return 0


if __name__ == "__main__":
    sys.exit(main())
