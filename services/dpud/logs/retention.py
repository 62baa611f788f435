"""How long logs are kept, and when they are packed away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from dpu.errors import DpuError
from dpu_api.v1.job_pb2 import JobState
from dpud.logs.ledger import LATE_US, SECOND_US

if TYPE_CHECKING:
    from collections.abc import Callable

    from dpud.logs.aggregator import Aggregator
    from dpud.logs.store import Held

log = structlog.get_logger(__name__)

DAY_S = 24 * 3600.0
#: How often it is looked which logs are due.
ROUND_S = 3600.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How many days after its last line a job's log is removed."""

    days: float
    #: Of jobs that failed or were cancelled.
    failed_days: float

    def keeps_s(self, held: Held) -> float:
        """Return how many seconds the log of a job is kept; where nobody knows how it ended, the longer time."""
        if held.ended is None:
            return max(self.days, self.failed_days) * DAY_S
        return (self.days if held.ended == JobState.JOB_STATE_FINISHED else self.failed_days) * DAY_S


def has_rested(held: Held, now_s: float) -> bool:
    """Return whether a job is to be sealed: no line of it may come any more."""
    return held.ended is None and now_s - held.last > LATE_US / SECOND_US


async def keep_tidy(aggregator: Aggregator, retention: Retention, now_s: Callable[[], float]) -> None:
    """Seal and remove what is due, now and every hour."""
    while True:
        try:
            await tidy(aggregator, retention, now_s())
        except DpuError as error:
            # No reason to end the service: lines come in and go out all the same.
            log.warning("logs could not be tidied", error=error.message)
        await asyncio.sleep(ROUND_S)


async def tidy(aggregator: Aggregator, retention: Retention, now_s: float) -> None:
    """Seal and remove what is due."""
    sealed = await aggregator.seal_where(lambda held: has_rested(held, now_s))
    removed = await aggregator.remove_where(lambda held: now_s - held.last > retention.keeps_s(held))
    if sealed or removed:
        log.info("logs tidied", sealed=len(sealed), removed=len(removed))
