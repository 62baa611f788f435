"""What has happened since this scheduler began, counted as it is committed: plain numbers, for the metrics."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from dpud.hosting.metrics import Distribution
from dpud.scheduler import events
from dpud.scheduler.model import FailureCategory, JobState, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dpud.scheduler.model import Failure, Job, State

WAITS_S = (0.01, 0.1, 1, 10, 60, 300, 1_800, 7_200, 28_800, 86_400)
RUNS_S = (0.01, 0.1, 1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)
APPENDS_S = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)
#: A sequence is named by whoever submits it: so many names are told apart, then all others are OTHER.
MOST_NAMES = 100
OTHER = "other"


class Tally:
    """Counts the events of every commit."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.appends = Distribution(APPENDS_S)
        self.waits = Distribution(WAITS_S)
        self.runs: dict[str, Distribution] = {}
        self.submitted: Counter[str] = Counter()
        #: By sequence and how the job ended.
        self.ended: Counter[tuple[str, JobState]] = Counter()
        #: By outcome, and category of the failure.
        self.attempts: Counter[tuple[str, str]] = Counter(dict.fromkeys(_attempts(), 0))
        self.expired = 0
        #: By open job: since when the tasks of its stage could be leased.
        self._ready: dict[int, float] = {}
        self._names: set[str] = set()
        self._counts: dict[type, Any] = {
            events.JobSubmitted: self._taken,
            events.TaskLeased: self._leased,
            events.TaskEnded: self._ended,
            events.TaskRequeued: self._retried,
            events.StagePlanned: self._planned,
            events.StageBegun: self._begun,
            events.JobEnded: self._job_ended,
        }

    def commit(self, happened: Sequence[events.Event], append_s: float, state: State) -> None:
        """Count a commit that took so long to become durable; `state` is as it left it."""
        if any(type(event) in events.JOURNALED for event in happened):
            self.appends.observe(append_s)
        for event in happened:
            if (count := self._counts.get(type(event))) is not None:
                count(event, state)

    def ready(self, job: Job) -> float:
        """Return since when the tasks of a job's stage could be leased; at most since this scheduler began."""
        return self._ready.get(job.id, self.began if job.stage else job.submitted)

    def _taken(self, event: events.JobSubmitted, _state: State) -> None:
        self.submitted[self._name(event.sequence)] += 1
        self._ready[event.job] = event.at

    def _leased(self, event: events.TaskLeased, _state: State) -> None:
        if event.attempt == 1 and (since := self._ready.get(event.job)) is not None:
            self.waits.observe(event.at - since)

    def _ended(self, event: events.TaskEnded, state: State) -> None:
        self._attempted(event.state.name.lower(), event.failure)
        if event.state is TaskState.SUCCEEDED and (job := state.jobs.get(event.job)) is not None:
            name = self._name(job.sequence)
            if name not in self.runs:
                self.runs[name] = Distribution(RUNS_S)
            self.runs[name].observe(event.run_s)

    def _retried(self, event: events.TaskRequeued, _state: State) -> None:
        self._attempted("retried", event.failure)

    def _attempted(self, outcome: str, failure: Failure | None) -> None:
        self.attempts[outcome, failure.category.name.lower() if failure else ""] += 1
        self.expired += failure is not None and failure.category is FailureCategory.WORKER_LOST

    def _planned(self, event: events.StagePlanned, _state: State) -> None:
        self._attempted("succeeded", None)
        self._ready[event.job] = event.at

    def _begun(self, event: events.StageBegun, _state: State) -> None:
        self._ready[event.job] = event.at

    def _job_ended(self, event: events.JobEnded, state: State) -> None:
        self._ready.pop(event.job, None)
        if (job := state.jobs.get(event.job)) is not None:
            self.ended[self._name(job.sequence), job.state] += 1

    def _name(self, sequence: str) -> str:
        if sequence not in self._names:
            if len(self._names) >= MOST_NAMES:
                return OTHER
            self._names.add(sequence)
        return sequence


def _attempts() -> Iterator[tuple[str, str]]:
    """Yield the outcomes and categories that are shown from the beginning."""
    yield "succeeded", ""
    for category in FailureCategory:
        for outcome in ("failed", "retried"):
            yield outcome, category.name.lower()
    yield "cancelled", FailureCategory.CANCELLED.name.lower()
