"""The worker's agent: registers, keeps one Work call open, and runs what it leases."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from grpc import aio

import dpu
from dpu.channel import CHUNK
from dpu.errors import DpuError, NotAllowed, StaleLease, UnknownSession, UsageError, VersionMismatch
from dpu.status import from_rpc
from dpu_api.v1.dispatch_pb2 import RegisterWorkerRequest, ReportPlanRequest, TaskReport, WorkRequest, WorkResponse
from dpu_api.v1.dispatch_pb2_grpc import DispatchServiceStub
from dpu_api.v1.job_pb2 import Failure, FailureCategory
from dpud.worker.leases import Key, Leases, key_of
from dpud.worker.outcome import Stop
from dpud.worker.peers import pauses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dpu_api.v1.catalogue_pb2 import Catalogue
    from dpu_api.v1.dispatch_pb2 import TaskLease
    from dpu_api.v1.job_pb2 import TaskRef, TaskSpec
    from dpud.worker.attempt import Attempt, Result
    from dpud.worker.shift import Shift

log = structlog.get_logger(__name__)

#: Answers may take so much longer than the scheduler was asked to wait.
LATE_S = 15.0
CALL_S = 30.0
#: A call, and the one that makes the scheduler answer it.
CALLS = 2
#: A scheduler that answers at once, and nothing, is not asked faster than this.
PAUSE_S = 0.05
#: While short tasks run, what is held is named so often: far more often than a lease lapses.
RENEWED_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What a worker says of itself."""

    name: str
    slots: int
    memory_mib: int
    catalogue: Catalogue

    def registration(self) -> RegisterWorkerRequest:
        """Return it as it travels."""
        return RegisterWorkerRequest(
            name=self.name,
            slots=self.slots,
            memory_mib=self.memory_mib,
            version=dpu.__version__,
            catalogue=self.catalogue,
        )


class Agent:
    """Leases tasks for its slots and reports how they end."""

    def __init__(self, worker: Worker, channel: aio.Channel, shift: Callable[[list[TaskLease]], Shift]) -> None:
        self._worker = worker
        self._stub = DispatchServiceStub(channel)
        self._shift = shift
        self._leases = Leases(worker.slots, worker.memory_mib)
        #: By attempt: the shift that runs it.
        self._shifts: dict[Key, Shift] = {}
        self._session = ""
        self._heartbeat_s = 10.0
        self._calls = 0
        # When a call last named all that is held.
        self._renewed = -RENEWED_S
        self._draining = False
        # Something ended: the scheduler wants to know, and a slot wants more.
        self._news = asyncio.Event()

    async def work(self, stop: asyncio.Event, grace_s: float) -> None:
        """Work until `stop` is set; then hand back what has not started, and after `grace_s` what still runs.

        Raises NotAllowed, UsageError or VersionMismatch where the scheduler will not have this worker.
        """
        self._stopping = stop
        async with asyncio.TaskGroup() as group:
            self._group = group
            draining = group.create_task(self._drain(stop, grace_s))
            await self._register()
            await self._keep_calling()
            draining.cancel()

    @property
    def leases(self) -> tuple[int, int]:
        """How many leases run, and how many wait for a slot."""
        return len(self._leases.running), len(self._leases.waiting)

    async def _register(self) -> None:
        for pause in pauses():
            try:
                answer = await self._stub.RegisterWorker(self._worker.registration(), timeout=CALL_S)
            except aio.AioRpcError as error:
                reason = from_rpc(error, "the scheduler")
                if isinstance(reason, NotAllowed | UsageError | VersionMismatch):
                    raise reason from error
                log.warning("not registered, trying again", reason=reason.message)
            else:
                self._session, self._renewed = answer.session, -RENEWED_S
                self._heartbeat_s = answer.heartbeat.ToTimedelta().total_seconds() or self._heartbeat_s
                log.info("registered", session=self._session, name=self._worker.name, slots=self._worker.slots)
                return
            if self._draining:
                return
            await asyncio.sleep(pause)

    async def _keep_calling(self) -> None:
        """Keep a call open until everything is told after a stop; a newer call makes the older one come back."""
        calls: set[asyncio.Task[None]] = set()
        waits = pauses()
        try:
            while not (self._draining and self._leases.done):
                if not calls:
                    await self._gather()
                if not calls or (self._news.is_set() and len(calls) < CALLS):
                    self._news.clear()
                    calls.add(asyncio.create_task(self._call()))
                done = await self._first(calls)
                calls -= done
                try:
                    for call in done:
                        await call
                        waits = pauses()
                except UnknownSession:
                    log.warning("the scheduler does not know this session: registering anew")
                    await self._register()
                except DpuError as error:
                    log.warning("call failed, trying again", reason=error.message)
                    await asyncio.sleep(next(waits))
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    async def _gather(self) -> None:
        """Wait for what ends at any moment: it travels with the next call."""
        if not self._leases.brisk or self._draining:
            return
        linger_s = self._leases.linger_s
        with suppress(TimeoutError):
            async with asyncio.timeout(linger_s):
                await self._news.wait()
                if not self._leases.dry:
                    await asyncio.sleep(linger_s)

    async def _first(self, calls: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        """Return the calls that came back, when one did; none when there is news for a further call."""
        if len(calls) == CALLS:
            return (await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED))[0]
        news = asyncio.create_task(self._news.wait())
        try:
            done, _ = await asyncio.wait({*calls, news}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        if news in done and not self._leases.dry:
            await asyncio.sleep(self._leases.linger_s)
        return {call for call in calls if call.done()}

    async def _call(self) -> None:
        """Report, renew and claim, once."""
        self._calls = number = self._calls + 1
        begun = asyncio.get_running_loop().time()
        # Short tasks come and go many a call: only now and then is each of them named.
        renewing = not self._leases.brisk or begun - self._renewed >= RENEWED_S
        demand = self._leases.demand(renewing=renewing)
        request = WorkRequest(
            session=self._session,
            call=number,
            ended=demand.ended,
            held=demand.held,
            room=0 if self._draining else demand.room,
            memory_mib=demand.memory_mib,
            draining=self._draining,
        )
        wait_s = self._heartbeat_s
        if renewing:
            self._renewed = begun
        else:
            # A cancel is told to who names its task: that must not wait for long.
            wait_s = min(RENEWED_S, wait_s)
        request.wait.FromMilliseconds(round(wait_s * 1000))
        try:
            answer = await self._stub.Work(request, timeout=self._heartbeat_s + LATE_S)
        except BaseException as error:
            self._leases.failed(demand)
            self._renewed = -RENEWED_S
            if isinstance(error, aio.AioRpcError):
                raise from_rpc(error, "the scheduler") from error
            raise
        self._leases.answered(demand, answer.acknowledged)
        self._heed(answer)
        # One that a newer call had answered says nothing either, and at once.
        if _says_nothing(answer) and number == self._calls and asyncio.get_running_loop().time() - begun < PAUSE_S:
            await asyncio.sleep(PAUSE_S)

    def _heed(self, answer: WorkResponse) -> None:
        """Do what the scheduler says."""
        for ref in answer.cancel:
            self._stop(ref, Stop.CANCELLED)
        for ref in answer.stale:
            self._stop(ref, Stop.STALE)
        self._leases.take(answer.leases)
        if answer.drain and not self._stopping.is_set():
            log.info("drained by an operator")
            self._stopping.set()
        if self._draining:
            self._hand_back()
        self._start()

    def _stop(self, ref: TaskRef, why: Stop) -> None:
        if shift := self._shifts.get(key_of(ref)):
            shift.stop(ref, why)
            return
        waiting = next((lease for lease in self._leases.waiting if lease.ref == ref), None)
        if why is Stop.STALE:
            self._leases.forget(ref)
        elif waiting is not None:
            self._leases.end(_unstarted(waiting, FailureCategory.FAILURE_CATEGORY_CANCELLED, "cancelled"))
            self._news.set()

    def _start(self) -> None:
        """Start what waits, as far as slots and memory go."""
        while leases := self._leases.start():
            shift = self._shift(leases)
            self._shifts |= dict.fromkeys((key_of(lease.ref) for lease in leases), shift)
            self._group.create_task(self._run(shift, leases))

    async def _run(self, shift: Shift, leases: list[TaskLease]) -> None:
        await shift.run(self._ended, self._put_back)
        self._leases.freed(leases[0])
        self._put_back([])

    def _put_back(self, left: list[TaskLease]) -> None:
        """Let leases wait again that a shift will not begin, and start what can be."""
        for lease in left:
            del self._shifts[key_of(lease.ref)]
        self._leases.put_back(left)
        if self._draining:
            self._hand_back()
            self._news.set()
        self._start()

    async def _ended(self, attempt: Attempt, result: Result) -> None:
        """Take the end of one attempt."""
        ref = attempt.lease.ref
        report: TaskReport | None = result.report
        if result.plan is not None and not attempt.stale:
            report = await self._tell_plan(attempt, result.report, result.plan)
        del self._shifts[key_of(ref)]
        if attempt.stale or report is None:
            self._leases.forget(ref)
        else:
            self._leases.end(report)
        self._news.set()

    async def _tell_plan(self, attempt: Attempt, report: TaskReport, plan: list[TaskSpec]) -> TaskReport | None:
        """Report a plan; return a report of failure where it was refused, and None where nothing is left to say."""
        for pause in pauses():
            try:
                await self._stub.ReportPlan(plan_chunks(self._session, report, plan), timeout=CALL_S)
            except aio.AioRpcError as error:
                reason = from_rpc(error, "the scheduler")
                if isinstance(reason, StaleLease) or attempt.stale:
                    return None
                if isinstance(reason, UsageError):
                    category = FailureCategory.FAILURE_CATEGORY_RECIPE
                    report.failure.CopyFrom(Failure(category=category, message=reason.message))
                    return report
                log.warning("plan not reported, trying again", reason=reason.message)
                await asyncio.sleep(pause)
            else:
                return None
        raise AssertionError("pauses never end")

    async def _drain(self, stop: asyncio.Event, grace_s: float) -> None:
        """Once told to stop: take nothing more, hand back what waits, and after the grace what runs."""
        await stop.wait()
        log.info("draining", running=len(self._shifts), grace_s=grace_s)
        self._draining = True
        self._hand_back()
        self._news.set()
        if self._shifts:
            await asyncio.sleep(grace_s)
        for lease in self._leases.running:
            self._stop(lease.ref, Stop.DRAINED)

    def _hand_back(self) -> None:
        for lease in self._leases.hand_back():
            self._leases.end(_unstarted(lease, FailureCategory.FAILURE_CATEGORY_WORKER_DRAINED, "the worker stops"))


def _unstarted(lease: TaskLease, category: FailureCategory.ValueType, message: str) -> TaskReport:
    """Return the report of a task that was never started here."""
    return TaskReport(ref=lease.ref, token=lease.token, failure=Failure(category=category, message=message))


def _says_nothing(answer: WorkResponse) -> bool:
    return not (answer.leases or answer.cancel or answer.stale or answer.acknowledged or answer.drain)


async def plan_chunks(session: str, report: TaskReport, plan: list[TaskSpec]) -> AsyncIterator[ReportPlanRequest]:
    """Give a plan in messages of at most about 1 MiB; session and report go with the first."""
    request = ReportPlanRequest(session=session, report=report)
    size = 0
    for spec in plan:
        size += spec.ByteSize() + 8
        if size > CHUNK and request.tasks:
            yield request
            request, size = ReportPlanRequest(), spec.ByteSize()
        request.tasks.append(spec)
    yield request
