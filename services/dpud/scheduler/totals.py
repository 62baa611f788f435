"""What jobs came to that have ended: sums, by day and by whose and what they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from dpud.scheduler.model import JobState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dpud.scheduler.model import Job

DAY_S = 86_400

#: What sums are told apart by.
Kind: TypeAlias = Literal["day", "owner", "sequence"]


class Slot(NamedTuple):
    """What one sum is of."""

    project: str
    #: Days since 1970, UTC.
    day: int
    owner: str
    sequence: str


@dataclass(frozen=True, slots=True)
class Totals:
    """What some jobs came to; times are in seconds."""

    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    #: That ended normally.
    tasks: int = 0
    waited_s: float = 0.0
    longest_wait_s: float = 0.0
    ran_s: float = 0.0
    longest_run_s: float = 0.0
    #: Time of slots.
    busy_s: float = 0.0

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            finished=self.finished + other.finished,
            failed=self.failed + other.failed,
            cancelled=self.cancelled + other.cancelled,
            tasks=self.tasks + other.tasks,
            waited_s=self.waited_s + other.waited_s,
            longest_wait_s=max(self.longest_wait_s, other.longest_wait_s),
            ran_s=self.ran_s + other.ran_s,
            longest_run_s=max(self.longest_run_s, other.longest_run_s),
            busy_s=self.busy_s + other.busy_s,
        )


def totals_of(jobs: Iterable[Job]) -> dict[Slot, Totals]:
    """Return what ended jobs came to."""
    found: dict[Slot, Totals] = {}
    for job in jobs:
        slot = Slot(job.project, int(job.ended // DAY_S), job.user, job.sequence)
        found[slot] = found.get(slot, Totals()) + _of(job)
    return found


def _of(job: Job) -> Totals:
    waited = (job.started or job.ended) - job.submitted
    ran = job.ended - job.started if job.started else 0.0
    return Totals(
        finished=int(job.state is JobState.FINISHED),
        failed=int(job.state is JobState.FAILED),
        cancelled=int(job.state is JobState.CANCELLED),
        tasks=job.counts.normal,
        waited_s=waited,
        longest_wait_s=waited,
        ran_s=ran,
        longest_run_s=ran,
        busy_s=job.busy_s,
    )
