"""One attempt at one task, from its lease to its report."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpu import tracing
from dpu.errors import UsageError
from dpu.values import from_map
from dpu_api.v1.dispatch_pb2 import TaskReport
from dpu_api.v1.job_pb2 import Failure, FailureCategory
from dpud.worker import outcome, sandbox, wire
from dpud.worker.channel import BrokenChannel
from dpud.worker.leases import memory_of
from dpud.worker.lines import Level, Lines
from dpud.worker.logship import TaskLog
from dpud.worker.outcome import Stop
from dpud.worker.proxy import ArchiveProxy

if TYPE_CHECKING:
    from pathlib import Path

    from dpu_api.v1.dispatch_pb2 import TaskLease
    from dpu_api.v1.job_pb2 import TaskSpec
    from dpud.worker.frames import Frames
    from dpud.worker.groups import Groups
    from dpud.worker.packages import Packages
    from dpud.worker.peers import Channels
    from dpud.worker.pool import Pool
    from dpud.worker.quarters import Quarters
    from dpud.worker.spool import Spool
    from dpud.worker.trees import Trees
    from dpud.worker.walls import Walls

#: From SIGTERM to SIGKILL. What takes too much of the machine, or is nobody's any more, gets no time.
GRACE_S = {Stop.CANCELLED: 10.0, Stop.TIME: 10.0, Stop.DRAINED: 2.0}
#: A plan only asks the archive; a task without an estimate of its own gets SHORTEST_S.
PLAN_S = 60.0
SHORTEST_S = 600.0
PATIENCE = 20.0
LARGEST_PLAN = 1_000_000
#: Lines of the log that go into a failure's detail.
TAIL = 30
WIDEST = 500
DETAIL = 8 * 1024 - 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all attempts of a worker work with."""

    quarters: Quarters
    walls: Walls
    pool: Pool
    trees: Trees
    packages: Packages
    frames: Frames
    archive: Channels
    spool: Spool
    kernel_kills: sandbox.KernelKills
    #: Where task processes are bounded together with what they start; None: nowhere.
    groups: Groups | None
    in_place: bool
    #: Of a task for which nobody said how much it needs.
    memory_mib: int
    scratch_mib: int
    #: From SIGTERM to SIGKILL, by reason.
    grace_s: dict[Stop, float]
    patience_s: float
    #: A folder of further instruments, as the archive has it.
    instruments: Path | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended; `plan` is set where it was a plan that ended well."""

    report: TaskReport
    plan: list[TaskSpec] | None = None


class Attempt:
    """What is known of one attempt here: its log, what it planned, why it was stopped, how it ended."""

    def __init__(self, lease: TaskLease, bench: Bench) -> None:
        self.lease = lease
        self.allowance = allowance(lease, bench)
        self.begun = time.monotonic()
        #: When its process said that it ended; 0 where it did not.
        self.ended = 0.0
        #: Why it is to end before its time.
        self.stopping: Stop | None = None
        #: Whether its process runs, and ran, nothing else.
        self.alone = False
        self.reason = ""
        self.peak_mib = 0.0
        self._bench = bench
        self._log = TaskLog(lease.ref, lease.project, bench.spool, user=lease.user, label=lease.spec.label)
        self._tail: deque[str] = deque(maxlen=TAIL)
        self._planned: list[dict[str, Any]] = []
        self._proxy: ArchiveProxy | None = None
        self._cpu_s = 0.0
        about = {"dpu.job": lease.ref.job_id, "dpu.task": lease.ref.task, "dpu.attempt": lease.ref.attempt}
        self._span = tracing.begin(f"task {lease.recipe}", lease.trace_parent, **about)

    def stop(self, why: Stop, reason: str = "") -> None:
        """Note that it is to end before its time; the first reason counts."""
        if self.stopping is None:
            self.stopping, self.reason = why, reason

    @property
    def stale(self) -> bool:
        """Whether nobody wants to hear of it any more."""
        return self.stopping is Stop.STALE

    def order(self, number: int) -> dict[str, Any]:
        """Return what its process must know of it."""
        lease = self.lease
        return {
            "number": number,
            "plan": lease.plan,
            "recipe": lease.recipe,
            "options": from_map(lease.options),
            "spec": None if lease.plan else wire.spec_to_json(lease.spec),
        }

    def said(self, end: dict[str, Any]) -> Failure | None:
        """Take what its process said of its end; return the failure, None where it ended normally.

        Raises ValueError, TypeError or KeyError where that makes no sense; nothing is taken then.
        """
        cpu_s, peak_mib, ended = (outcome.number(end, name) for name in ("cpu_s", "peak_mib", "ended"))
        self._cpu_s, self.peak_mib = cpu_s, max(self.peak_mib, peak_mib)
        # Several ends are heard at once. What their process says of the times only shares out the time between them.
        self.ended = min(max(ended, self.begun), time.monotonic())
        return outcome.said(end, self.allowance)

    def starved(self, failure: Failure) -> Failure:
        """Return the failure of an attempt that failed after the kernel had killed one of its processes."""
        return outcome.starved(self.allowance, failure.detail or failure.message)

    def died(self, status: int, *, kernel_killed: bool) -> Failure:
        """Return the failure of an attempt whose process has died without a word."""
        return outcome.died(
            status, self.allowance, peak_mib=self.peak_mib, kernel_killed=kernel_killed, tail=self._last_lines()
        )

    def stopped(self) -> Failure:
        """Return the failure of an attempt that the worker stopped."""
        failure = outcome.stopped(self.stopping or Stop.DRAINED, self.allowance, self.reason)
        failure.detail = self._last_lines()
        return failure

    def _last_lines(self) -> str:
        return "\n".join(self._tail)[-DETAIL:]

    async def finish(self, failure: Failure | None) -> Result:
        """Return how it ended, when its lines are in the spool."""
        plan = None
        if failure is None and self.lease.plan:
            try:
                plan = [wire.spec_from_json(record) for record in self._planned]
            except UsageError as error:
                failure = Failure(category=FailureCategory.FAILURE_CATEGORY_RECIPE, message=error.message)
        if self._proxy is not None:
            await self._proxy.close()
        if failure is not None:
            await self._log.say(failure.message, Level.ERROR)
        await self._log.flush()
        if self._span is not None:
            self._span.end()
        return Result(self._report(failure), plan)

    def _report(self, failure: Failure | None) -> TaskReport:
        return TaskReport(
            ref=self.lease.ref,
            token=self.lease.token,
            failure=failure,
            run_s=(self.ended or time.monotonic()) - self.begun,
            cpu_s=self._cpu_s,
            peak_memory_mib=round(self.peak_mib),
            log_lines=self._log.count,
            products=self._proxy.products if self._proxy else 0,
            alone=self.alone,
        )

    async def answer(self, call: str, arguments: dict[str, Any], scratch: Path) -> dict[str, Any]:
        """Answer a call of the archive. Raises DpuError or OSError where the archive fails."""
        if self._proxy is None:
            bench = self._bench
            self._proxy = ArchiveProxy(self.lease, scratch, bench.archive, bench.frames, in_place=bench.in_place)
            self._proxy.patience_s = bench.patience_s
        with tracing.within(self._span):
            return await self._proxy.answer(call, arguments)

    async def print(self, lines: Lines) -> None:
        """Take lines of its log, for a `flush` in time."""
        last = lines.texts[-TAIL:]
        self._tail.extend(last if lines.size < WIDEST else (text[:WIDEST] for text in last))
        await self._log.print(lines)

    async def flush(self) -> None:
        """Have its lines travel."""
        await self._log.flush()

    async def say(self, text: str) -> None:
        """Add a line of the worker's own to its log."""
        await self._log.say(text, Level.INFO)

    def plan(self, tasks: list[dict[str, Any]]) -> None:
        """Take a part of its plan."""
        self._planned += tasks
        if len(self._planned) > LARGEST_PLAN:
            raise BrokenChannel(f"a plan of more than {LARGEST_PLAN} tasks")


def allowance(lease: TaskLease, bench: Bench) -> sandbox.Allowance:
    """Return what a lease's task may take."""
    fallback = PLAN_S if lease.plan else max(SHORTEST_S, PATIENCE * lease.estimate_s)
    return sandbox.Allowance(
        time_s=lease.limits.time_s or fallback,
        memory_mib=memory_of(lease) or bench.memory_mib,
        scratch_mib=bench.scratch_mib,
    )
