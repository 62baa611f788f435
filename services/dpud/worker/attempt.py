"""One attempt at one task: from its lease to its report."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import structlog

from dpu.errors import BadTree, DpuError, NotFound, UsageError
from dpu.values import from_map
from dpu_api.v1.dispatch_pb2 import TaskReport
from dpu_api.v1.job_pb2 import Failure, FailureCategory
from dpud.worker import outcome, sandbox, wire
from dpud.worker.channel import BrokenChannel
from dpud.worker.folders import remove
from dpud.worker.leases import memory_of
from dpud.worker.lines import Level, Lines
from dpud.worker.logship import TaskLog
from dpud.worker.outcome import Stop
from dpud.worker.pool import Kind
from dpud.worker.proxy import ArchiveProxy

if TYPE_CHECKING:
    from pathlib import Path

    from dpu_api.v1.dispatch_pb2 import TaskLease
    from dpu_api.v1.job_pb2 import TaskSpec
    from dpud.worker.frames import Frames
    from dpud.worker.peers import Channels
    from dpud.worker.pool import Pool
    from dpud.worker.process import TaskProcess
    from dpud.worker.spool import Spool
    from dpud.worker.trees import Trees
    from dpud.worker.walls import Walls

log = structlog.get_logger(__name__)

#: How often a running task's time, memory and disk are looked at.
CHECK_S = 0.25
#: From SIGTERM to SIGKILL. What takes too much of the machine, or is nobody's any more, gets no time.
GRACE_S = {Stop.CANCELLED: 10.0, Stop.TIME: 10.0, Stop.DRAINED: 2.0}
#: A plan only asks the archive; a task without an estimate of its own gets SHORTEST_S.
PLAN_S = 60.0
SHORTEST_S = 600.0
PATIENCE = 20.0
LARGEST_PLAN = 1_000_000
#: Lines of the log that go into a failure's detail.
TAIL = 30
DETAIL = 8 * 1024 - 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all attempts of a worker work with."""

    caches: Path
    walls: Walls
    pool: Pool
    trees: Trees
    frames: Frames
    archive: Channels
    spool: Spool
    kernel_kills: sandbox.KernelKills
    in_place: bool
    #: Of a task for which nobody said how much it needs.
    memory_mib: int
    scratch_mib: int
    #: From SIGTERM to SIGKILL, by reason.
    grace_s: dict[Stop, float]
    patience_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended; `plan` is set where it was a plan that ended well."""

    report: TaskReport
    plan: list[TaskSpec] | None = None


class Attempt:
    """Runs one lease in a process of the pool, and answers what that process asks."""

    def __init__(self, lease: TaskLease, bench: Bench) -> None:
        self.lease = lease
        self._bench = bench
        self._allowance = allowance(lease, bench)
        self._caches = sandbox.caches_of(bench.caches, lease.user, lease.code_digest)
        self._log = TaskLog(lease.ref, lease.project, bench.spool, user=lease.user, label=lease.spec.label)
        self._tail: deque[str] = deque(maxlen=TAIL)
        self._planned: list[dict[str, Any]] = []
        self._proxy: ArchiveProxy | None = None
        self._stopping: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()
        self._reason = ""
        self._peak_mib = 0.0
        self._cpu_s = 0.0

    def stop(self, why: Stop, reason: str = "") -> None:
        """End it before its time; the first reason counts."""
        if not self._stopping.done():
            self._reason = reason
            self._stopping.set_result(why)

    @property
    def stale(self) -> bool:
        """Whether nobody wants to hear of it any more."""
        return self._stopping.done() and self._stopping.result() is Stop.STALE

    async def run(self) -> Result:
        """Return how it ended, when nothing of it runs any more and its scratch folder is gone."""
        begun = time.monotonic()
        failure, plan = None, None
        try:
            failure = await self._with_code()
            if failure is None and self.lease.plan:
                plan = [wire.spec_from_json(record) for record in self._planned]
        except (BadTree, NotFound) as error:
            failure = Failure(category=FailureCategory.FAILURE_CATEGORY_CODE, message=error.message)
        except UsageError as error:
            failure = Failure(category=FailureCategory.FAILURE_CATEGORY_RECIPE, message=error.message)
        except (DpuError, OSError) as error:
            failure = outcome.stopped(Stop.INFRASTRUCTURE, self._allowance, str(error))
        except Exception as error:
            # A fault of ours in one attempt is no reason to end the others of this worker.
            log.exception("attempt failed", job=self.lease.ref.job_id, task=self.lease.ref.task)
            reason = f"a fault of the worker's own: {type(error).__name__}: {error}"
            failure = outcome.stopped(Stop.INFRASTRUCTURE, self._allowance, reason)
        if failure is not None:
            await self._log.say(failure.message, Level.ERROR)
        await self._log.flush()
        return Result(self._report(failure, time.monotonic() - begun), plan)

    def _report(self, failure: Failure | None, run_s: float) -> TaskReport:
        return TaskReport(
            ref=self.lease.ref,
            token=self.lease.token,
            failure=failure,
            run_s=run_s,
            cpu_s=self._cpu_s,
            peak_memory_mib=round(self._peak_mib),
            log_lines=self._log.count,
            products=self._proxy.products if self._proxy else 0,
        )

    async def _with_code(self) -> Failure | None:
        """Have the code, run, and let the code go."""
        async with AsyncExitStack() as held:
            tree = None
            if digest := self.lease.code_digest:
                tree = await held.enter_async_context(self._bench.trees.holding(digest, self.lease.project))
            if self._stopping.done():
                return self._stopped(self._stopping.result())
            return await self._in_process(tree)

    async def _in_process(self, tree: Path | None) -> Failure | None:
        """Run in a process of the pool, with a scratch folder of its own."""
        bench, kind = self._bench, Kind(self.lease.user, self.lease.code_digest)
        uid = bench.walls.uid_of(self.lease.user)
        process = await bench.pool.acquire(kind)
        if process.tasks == 0:
            await asyncio.to_thread(sandbox.make_caches, self._caches, bench.caches, uid)
        scratch = process.folder / f"task-{process.tasks}"
        unfit = "its task was broken off"
        try:
            sandbox.make_scratch(scratch, uid)
            self._proxy = ArchiveProxy(self.lease, scratch, bench.archive, bench.frames, in_place=bench.in_place)
            self._proxy.patience_s = bench.patience_s
            order = self._order(tree, scratch)
            if process.tasks == 0:
                order["confinement"] = bench.walls.around(self.lease.user, tree, process.folder, self._caches)
            end, why = await self._supervise(process, order)
            if end is None:
                unfit = "it died"
                return await self._died(process, why, kernel_killed=bench.kernel_kills.more())
            unfit = ", ".join(end["leftovers"])
            self._cpu_s, self._peak_mib = end["cpu_s"], max(self._peak_mib, end["peak_mib"])
            return outcome.said(end, self._allowance)
        finally:
            if self._proxy is not None:
                await self._proxy.close()
            await bench.pool.release(kind, process, unfit)
            await asyncio.to_thread(remove, scratch)

    def _order(self, tree: Path | None, scratch: Path) -> dict[str, Any]:
        lease = self.lease
        return {
            "do": "task",
            "plan": lease.plan,
            "recipe": lease.recipe,
            "options": from_map(lease.options),
            "spec": None if lease.plan else wire.spec_to_json(lease.spec),
            "tree": None if tree is None else str(tree),
            "scratch": str(scratch),
            "environment": sandbox.task_environment(scratch, self._caches),
            "limits": self._allowance.limits(),
        }

    async def _supervise(
        self, process: TaskProcess, order: dict[str, Any]
    ) -> tuple[dict[str, Any] | None, Stop | None]:
        """Return how the process said that its task ended (None: it died), and why the task was stopped, if it was."""
        deadline = time.monotonic() + self._allowance.time_s
        running = asyncio.create_task(process.run(order, self))
        while not running.done():
            # Between two looks nothing is asked of the machine; a task that is shorter is never looked at.
            either: set[asyncio.Future[Any]] = {running, self._stopping}
            await asyncio.wait(either, timeout=CHECK_S, return_when=asyncio.FIRST_COMPLETED)
            if not running.done() and (why := self._look(process, deadline)):
                return await self._end(process, running, why), why
        return running.result(), None

    def _look(self, process: TaskProcess, deadline: float) -> Stop | None:
        """Return why the task must be stopped now, if it must."""
        if self._stopping.done():
            return self._stopping.result()
        if time.monotonic() > deadline:
            return Stop.TIME
        used = sandbox.memory_mib(process.pid)
        self._peak_mib = max(self._peak_mib, used)
        if used > self._allowance.memory_mib:
            return Stop.MEMORY
        if sandbox.folder_mib(process.folder) > self._allowance.scratch_mib:
            return Stop.SCRATCH
        return None

    async def _end(
        self, process: TaskProcess, running: asyncio.Task[dict[str, Any] | None], why: Stop
    ) -> dict[str, Any] | None:
        """Stop the process for certain, and return how it said that its task ended, if it still came to that."""
        await process.stop(self._bench.grace_s.get(why, 0.0))
        # Its last lines are in its channel and its pipes, which are closed now; but it may have waited for an answer.
        await asyncio.wait({running}, timeout=CHECK_S)
        if running.done():
            return running.result()
        running.cancel()
        await asyncio.wait({running})
        return None

    async def _died(self, process: TaskProcess, why: Stop | None, *, kernel_killed: bool) -> Failure:
        status = await process.gone()
        if why is not None:
            return self._stopped(why)
        tail = "\n".join(self._tail)[-DETAIL:]
        return outcome.died(status, self._allowance, peak_mib=self._peak_mib, kernel_killed=kernel_killed, tail=tail)

    def _stopped(self, why: Stop) -> Failure:
        failure = outcome.stopped(why, self._allowance, self._reason)
        failure.detail = "\n".join(self._tail)[-DETAIL:]
        return failure

    async def answer(self, call: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Answer a call of the archive. Where the archive fails, the task is stopped and never hears of it."""
        if self._proxy is None:
            raise BrokenChannel("a call came before its task")
        try:
            return await self._proxy.answer(call, arguments)
        except (DpuError, OSError) as error:
            return await self._give_up(str(error))

    async def _give_up(self, reason: str) -> NoReturn:
        self.stop(Stop.INFRASTRUCTURE, reason)
        await asyncio.get_running_loop().create_future()
        raise AssertionError("cancelled with the process")

    async def print(self, lines: Lines) -> None:
        """Take lines of its log."""
        self._tail.extend(text[:500] for text in lines.texts[-TAIL:])
        await self._log.print(lines)

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
