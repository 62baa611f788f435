"""What a worker is told: leases, cancels, leases that are no longer its own, reports that are durable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpud.scheduler.events import TaskLeased

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dpud.scheduler.commands import Report
    from dpud.scheduler.events import Event
    from dpud.scheduler.model import Ref, State


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said at once."""

    leases: tuple[TaskLeased, ...] = ()
    cancel: tuple[Ref, ...] = ()
    stale: tuple[Ref, ...] = ()
    acknowledged: tuple[Ref, ...] = ()
    drain: bool = False

    def followed_by(self, later: Answer) -> Answer:
        """Return both as one; what is to be stopped is as the later one says."""
        return Answer(
            leases=self.leases + later.leases,
            cancel=later.cancel,
            stale=tuple(dict.fromkeys(self.stale + later.stale)),
            acknowledged=tuple(dict.fromkeys(self.acknowledged + later.acknowledged)),
            drain=later.drain,
        )

    def has_news(self, told: frozenset[Ref], *, claimed: bool = False) -> bool:
        """Return whether it says something beyond the cancels that the worker was told before.

        Who claimed tasks waits for those: that its reports are durable can be said with them.
        """
        return bool(
            self.leases or self.stale or self.drain or (self.acknowledged and not claimed) or set(self.cancel) - told
        )


def answer(
    state: State, reports: Iterable[Report], held: Mapping[Ref, str], happened: Iterable[Event], *, drain: bool = False
) -> Answer:
    """Return what a worker is told after its reports and its claim took effect; `drain`: to hand back all it holds."""
    reports = tuple(reports)
    good = [report.ref for report in reports if _was_taken(state, report)]
    standing = [ref for ref, token in held.items() if state.holds(ref, token)]
    known = {*good, *standing}
    named = [*(report.ref for report in reports), *held]
    return Answer(
        leases=tuple(event for event in happened if isinstance(event, TaskLeased)),
        cancel=tuple(ref for ref in standing if state.jobs[ref.job].cancellation),
        stale=tuple(dict.fromkeys(ref for ref in named if ref not in known)),
        acknowledged=tuple(dict.fromkeys(good)),
        drain=drain,
    )


def _was_taken(state: State, report: Report) -> bool:
    """Return whether the report is this attempt's, now or before: a lapse empties the token."""
    task = state.find(report.ref.key)
    return task is not None and (task.attempt, task.token) == (report.ref.attempt, report.token)
