"""What the scheduler shows: the queue as it is, and what was counted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from dpud.hosting.metrics import gauge, histogram
from dpud.scheduler.model import LEASE_TERM_S, Errand
from dpud.scheduler.share import Usage, standing
from dpud.scheduler.tally import MOST_NAMES, OTHER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric

    from dpud.hosting.metrics import Distribution
    from dpud.scheduler.loop import Loop


class SchedulerMetrics:
    """Shows a scheduler whose loop is `loop`."""

    def __init__(self, loop: Loop, stale_reports: Callable[[], int]) -> None:
        self._loop = loop
        self._stale_reports = stale_reports

    def collect(self) -> Iterable[Metric]:
        """Return the metrics; walks the jobs that wait, and no tasks but the leased ones."""
        yield from self._queue()
        yield from self._workers()
        yield from self._shares()
        yield from self._counted()
        yield from self._journal()

    def _queue(self) -> Iterator[Metric]:
        state, tally, now = self._loop.state, self._loop.tally, self._loop.now()
        waiting: Counter[tuple[str, str]] = Counter()
        oldest = now
        for user, line in state.waiting.lines.items():
            for number, tasks in line:
                job = state.jobs[number]
                waiting[user, job.sequence] += len(tasks)
                oldest = min(oldest, tally.ready(job))
        states = {"queued": waiting.total(), "delayed": len(state.delayed), "running": len(state.leased)}
        yield gauge("dpu_tasks", "Tasks that have not ended.", "state", states)
        queue = GaugeMetricFamily("dpu_queue_tasks", "Tasks that wait for a slot.", labels=["user", "sequence"])
        for (user, sequence), count in waiting.most_common(MOST_NAMES):
            queue.add_metric([user, sequence], count)
        if rest := sum(count for _, count in waiting.most_common()[MOST_NAMES:]):
            queue.add_metric([OTHER, OTHER], rest)
        yield queue
        yield GaugeMetricFamily(
            "dpu_queue_oldest_seconds",
            "How long the oldest of the tasks that wait has done so.",
            max(0.0, now - oldest),
        )
        yield GaugeMetricFamily("dpu_jobs_open", "Jobs that have not ended.", state.open_jobs)
        yield gauge(
            "dpu_outbox_entries",
            "What archive and logs have not been told yet.",
            "errand",
            {errand.value: 0 for errand in Errand} | Counter(entry.errand.value for entry in state.outbox.values()),
        )

    def _workers(self) -> Iterator[Metric]:
        state, now = self._loop.state, self._loop.now()
        held = Counter(state.jobs[key.job].tasks[key.task].worker for key in state.leased)
        workers: Counter[str] = Counter(ready=0, cordoned=0, silent=0)
        slots: Counter[str] = Counter(busy=0, idle=0, cordoned=0, silent=0)
        for session in state.presence.sessions.values():
            kind = "cordoned" if session.worker in state.cordoned else "ready"
            kind = "silent" if session.seen + LEASE_TERM_S <= now else kind
            busy = min(session.slots, held[session.worker])
            workers[kind] += 1
            slots["busy"] += busy
            slots["idle" if kind == "ready" else kind] += session.slots - busy
        yield gauge("dpu_workers", "Workers that have a session.", "state", workers)
        yield gauge("dpu_worker_slots", "Their slots.", "state", slots)

    def _shares(self) -> Iterator[Metric]:
        state, now = self._loop.state, self._loop.now()
        had = {user: standing(state.usage.get(user, Usage()), state.running.get(user, 0), now) for user in state.usage}
        total = sum(had.values())
        most = sorted(had, key=had.__getitem__, reverse=True)[:MOST_NAMES]
        shares = {user: had[user] / total for user in most if total}
        yield gauge("dpu_user_share_ratio", "Part of all slot time of late that a user had.", "user", shares)

    def _counted(self) -> Iterator[Metric]:
        tally = self._loop.tally
        yield histogram(
            "dpu_task_queue_wait_seconds", "From when a task could be leased to its first lease.", [], {(): tally.waits}
        )
        runs: dict[tuple[str, ...], Distribution] = {(name,): each for name, each in tally.runs.items()}
        yield histogram("dpu_task_run_seconds", "How long tasks ran that ended normally.", ["sequence"], runs)
        attempts = CounterMetricFamily(
            "dpu_task_attempts", "Attempts at tasks that ended.", labels=["outcome", "category"]
        )
        for (outcome, category), count in tally.attempts.items():
            attempts.add_metric([outcome, category], count)
        yield attempts
        submitted = CounterMetricFamily("dpu_jobs_submitted", "Jobs that were taken.", labels=["sequence"])
        for sequence, count in tally.submitted.items():
            submitted.add_metric([sequence], count)
        yield submitted
        ended = CounterMetricFamily("dpu_jobs_ended", "Jobs that ended.", labels=["sequence", "state"])
        for (sequence, state), count in tally.ended.items():
            ended.add_metric([sequence, state.name.lower()], count)
        yield ended
        yield CounterMetricFamily("dpu_lease_expired", "Leases whose worker was lost.", tally.expired)
        yield CounterMetricFamily(
            "dpu_stale_report_rejected",
            "Ends that nobody wanted: the lease was another's by then.",
            self._stale_reports(),
        )

    def _journal(self) -> Iterator[Metric]:
        yield histogram(
            "dpu_journal_append_seconds", "How long a commit took to be durable.", [], {(): self._loop.tally.appends}
        )
        yield GaugeMetricFamily("dpu_journal_tail_events", "Events behind the newest snapshot.", self._loop.tail)
        yield GaugeMetricFamily(
            "dpu_journal_roomy", "1 while the journal takes new jobs; 0 when its disk is full.", int(self._loop.roomy)
        )
