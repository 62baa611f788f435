"""The worker's agent: registers, keeps a line to the scheduler open, and runs what it leases."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from grpc import aio

import dpu
from dpu.channel import CHUNK
from dpu.errors import DpuError, NotAllowed, StaleLease, UnknownSession, Unreachable, UsageError, VersionMismatch
from dpu.status import from_rpc
from dpu_api.v1.dispatch_pb2 import RegisterWorkerRequest, ReportPlanRequest, TaskReport, WorkRequest, WorkResponse
from dpu_api.v1.dispatch_pb2_grpc import DispatchServiceStub
from dpu_api.v1.job_pb2 import Failure, FailureCategory
from dpud.worker.leases import Key, Leases, key_of
from dpud.worker.line import Calls, Stream
from dpud.worker.outcome import Stop
from dpud.worker.peers import answered, pauses

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from dpu_api.v1.catalogue_pb2 import Catalogue
    from dpu_api.v1.dispatch_pb2 import TaskLease
    from dpu_api.v1.job_pb2 import TaskRef, TaskSpec
    from dpud.worker.attempt import Attempt, Result
    from dpud.worker.line import Line
    from dpud.worker.shift import Shift

log = structlog.get_logger(__name__)

#: The scheduler may be silent for so much longer than it was asked to be at most.
LATE_S = 15.0
CALL_S = 30.0
#: A plan of so many bytes travels in the report of its task.
SMALL_PLAN = 32 * 1024


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
        # Whether the scheduler is taken to know streams, and what it is talked to on.
        self._line_of_now = True
        self._line: Line | None = None
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
            await self._attend()
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
                self._session, self._line_of_now = answer.session, True
                self._heartbeat_s = answer.heartbeat.ToTimedelta().total_seconds() or self._heartbeat_s
                log.info("registered", session=self._session, name=self._worker.name, slots=self._worker.slots)
                return
            if self._draining:
                return
            await asyncio.sleep(pause)

    async def _attend(self) -> None:
        """Talk with the scheduler until everything is told after a stop; a line that breaks is replaced."""
        waits = pauses()
        while not self._is_done():
            try:
                async with aclosing(self._heard()) as answers:
                    async for answer in answers:
                        waits = pauses()
                        self._leases.acknowledged(answer.acknowledged)
                        self._heed(answer)
                        if self._is_done():
                            return
            except UnknownSession:
                log.warning("the scheduler does not know this session: registering anew")
                await self._register()
            except VersionMismatch as error:
                if not self._line_of_now:
                    raise
                log.info("the scheduler knows calls alone", reason=error.message)
                self._line_of_now = False
            except DpuError as error:
                log.warning("line broken, trying again", reason=error.message)
                await asyncio.sleep(next(waits))

    def _is_done(self) -> bool:
        """Return whether there is nothing left to tell after a stop."""
        return self._draining and self._leases.done

    async def _heard(self) -> AsyncGenerator[WorkResponse, None]:
        """Open a line, speak on it as long as it lasts, and give what the scheduler says. Raises DpuError."""
        line = Stream(self._stub) if self._line_of_now else Calls(self._stub, self._news.set)
        # What was said on an older line may never have come.
        self._leases.retell()
        speaking = asyncio.create_task(self._speak(line))
        try:
            while (answer := await self._next(line)) is not None:
                yield answer
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
            await line.close()

    async def _next(self, line: Line) -> WorkResponse | None:
        try:
            async with asyncio.timeout(self._heartbeat_s + LATE_S):
                return await line.hear()
        except TimeoutError:
            raise Unreachable("the scheduler has not said anything for too long") from None
        except aio.AioRpcError as error:
            raise from_rpc(error, "the scheduler") from error

    async def _speak(self, line: Line) -> None:
        """Report, renew and claim, whenever there is news and before leases lapse."""
        loop = asyncio.get_running_loop()
        self._line = line
        due = loop.time()
        while True:
            # An attentive scheduler knows what is held from earlier words: only now and then is each lease named.
            renewing = loop.time() >= due or not line.is_attentive
            if renewing:
                due = loop.time() + self._heartbeat_s
            self._news.clear()
            await line.say(self._words(renewing=renewing))
            if self._is_done():
                await line.finish()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._news.wait()
            await self._gather()

    async def _gather(self) -> None:
        """Wait for what ends at any moment: it is told together."""
        if not (self._leases.dry or self._draining):
            await asyncio.sleep(self._leases.linger_s)

    def _words(self, *, renewing: bool) -> WorkRequest:
        """Return what there is to say."""
        self._calls += 1
        demand = self._leases.demand(renewing=renewing)
        request = WorkRequest(
            session=self._session,
            call=self._calls,
            ended=demand.ended,
            held=demand.held,
            room=0 if self._draining else demand.room,
            memory_mib=demand.memory_mib,
            draining=self._draining,
        )
        request.wait.FromMilliseconds(round(self._heartbeat_s * 1000))
        return request

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
        if why is Stop.STALE:
            self._leases.forget(ref)
        elif (waiting := self._leases.waits(ref)) is not None:
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
        """Have a plan told; return the report that tells it or its refusal, and None where nothing is left to say."""
        if self._line and self._line.is_attentive and sum(spec.ByteSize() for spec in plan) <= SMALL_PLAN:
            report.plan.tasks.extend(plan)
            report.plan.SetInParent()
            return report
        for pause in pauses():
            try:
                chunks = plan_chunks(self._session, report, plan)
                await answered(self._stub.ReportPlan(chunks, timeout=CALL_S), "the scheduler")
            except DpuError as reason:
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
