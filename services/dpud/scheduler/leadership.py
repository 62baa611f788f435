"""Which of several schedulers on one database leads: the one that holds the epoch, as long as it renews it."""

from __future__ import annotations

import asyncio
import faulthandler
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import structlog

from dpud.scheduler.epoch import RENEW_S, TERM_S, Taken
from dpud.scheduler.journal import AppendFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

log = structlog.get_logger(__name__)

#: How often a standby asks whether the leader's time is up.
ASK_S = 0.5


class Seat(Protocol):
    """What only one of several can hold: a journal, as its writers see it."""

    def begin(self, *, by_force: bool, own: int) -> None:
        """Take it. Raises Taken where another holds it than `own`, and AppendFailed where nobody can tell."""

    def renew(self) -> None:
        """Hold it for one more term. Raises Superseded or AppendFailed."""

    def resign(self) -> None:
        """Give it up. Raises Superseded or AppendFailed."""


async def elected(seat: Seat, own: int = 0) -> None:
    """Return when the seat is ours; that of a process which was ours, and is gone, need not become free first."""
    log.info("standing by")
    while True:
        try:
            await asyncio.to_thread(seat.begin, by_force=False, own=own)
        except Taken:
            pass
        except AppendFailed as error:
            log.warning("the database does not answer", why=error.message)
        else:
            log.info("leading")
            return
        await asyncio.sleep(ASK_S)


def end_unless_called_again(seconds: float) -> None:
    """End this process after so many seconds, whatever its threads wait for, unless this is called again; 0: never."""
    if seconds:
        faulthandler.dump_traceback_later(seconds, exit=True)
    else:
        faulthandler.cancel_dump_traceback_later()


@asynccontextmanager
async def leading(seat: Seat, rearm: Callable[[float], None] = end_unless_called_again) -> AsyncIterator[None]:
    """Renew the seat within the block, and give it up at its end; a seat that is lost ends the block.

    `rearm` is called with each renewal: a leader that renews no more, be it stopped, stuck or cut off, must be gone
    when its time is up, and cannot be trusted to notice.
    """
    rearm(TERM_S)
    try:
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(_renew(seat, rearm))
            try:
                yield
            finally:
                renewing.cancel()
    finally:
        rearm(0)
    try:
        await asyncio.to_thread(seat.resign)
    except AppendFailed as error:
        log.warning("the seat is given up by time alone", why=error.message)
    log.info("no longer leading")


async def _renew(seat: Seat, rearm: Callable[[float], None]) -> None:
    while True:
        await asyncio.sleep(RENEW_S)
        begun = time.monotonic()
        await asyncio.to_thread(seat.renew)
        rearm(max(RENEW_S, begun + TERM_S - time.monotonic()))
