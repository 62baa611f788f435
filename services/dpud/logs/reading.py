"""Reading a job's log: from an offset, to its present end or until the job is closed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpu.errors import UsageError
from dpud.logs.aggregator import Aggregator, Job, View
from dpud.logs.record import Lines, TaskEnded, weight

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from dpud.hosting.caller import Caller
    from dpud.logs.store import Placed

#: Bytes that one look into the store brings.
BUDGET = 256 * 1024


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records a reader wants."""

    tasks: frozenset[int] = frozenset()
    newest_attempt: bool = False

    def wants(self, job: Job, record: Lines | TaskEnded) -> bool:
        """Return whether the record is one of them, as far as is known now."""
        if self.tasks and record.task not in self.tasks:
            return False
        return not self.newest_attempt or job.ledger.is_newest(record.task, record.attempt)


async def reading(
    aggregator: Aggregator, job: Job, caller: Caller, offset: int, *, selection: Selection, follow: bool
) -> AsyncGenerator[Placed | View, None]:
    """Yield the records from `offset` on, then the view that ended it. Raises UsageError for an offset beyond it."""
    while True:
        # Taken before the look: a change after it cannot be missed.
        changed = job.changed
        view = seen(job, caller)
        if offset > view.end:
            raise UsageError(f"offset {offset} is beyond the end of the log of job {job.id}, which is at {view.end}")
        while offset < view.end:
            placed = await aggregator.read(job, offset, BUDGET)
            for each in placed:
                if isinstance(each.record, Lines | TaskEnded) and selection.wants(job, each.record):
                    yield each
            offset = placed[-1].offset + weight(placed[-1].record)
        if changed is job.changed:
            if view.ended is not None or not follow:
                yield view
                return
            await changed.wait()


def seen(job: Job, caller: Caller) -> View:
    """Return what the caller may know of the job: another project's reads like one that does not exist."""
    visible = job.view.project is not None and caller.may_see(job.view.project)
    return job.view if visible else View()
