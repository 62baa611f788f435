"""The scheduler's two services: message, command, events, message."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration

import dpu
from dpu.errors import StaleLease, UsageError
from dpu_api.v1 import catalogue_pb2, dispatch_pb2, dispatch_pb2_grpc, job_pb2, scheduler_pb2, scheduler_pb2_grpc
from dpud.hosting.caller import current_caller
from dpud.scheduler import machine, wire, wire_workers
from dpud.scheduler.arrivals import arriving, repetition, submission
from dpud.scheduler.attendance import QUIET_S, Attendance, attending
from dpud.scheduler.cancels import cancelling, own
from dpud.scheduler.commands import Cordon, Drain, Plan
from dpud.scheduler.directory import Directory, page_token, position_of
from dpud.scheduler.dispatching import session_of
from dpud.scheduler.events import JobCancelRequested
from dpud.scheduler.explain import explain
from dpud.scheduler.loop import JOBS, Loop
from dpud.scheduler.model import HEARTBEAT_S, LEASE_TERM_S, State
from dpud.scheduler.polls import Polls
from dpud.scheduler.totals import DAY_S
from dpud.scheduler.watchers import heard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from grpc.aio import ServicerContext

    from dpud.scheduler.arrivals import Arrival
    from dpud.scheduler.commands import Repeat, Submit, WorkCall
    from dpud.scheduler.events import Event
    from dpud.scheduler.model import Job
    from dpud.scheduler.numbers import Numbers
    from dpud.scheduler.traces import Traces

MAX_PAGE = 1_000
JOBS_PAGE = 100
MAX_WAIT_S = 60.0
#: Changes within so long are one to whoever watches.
WATCH_PAUSE_S = 0.1
MOST_DAYS = 400
DAYS = 30


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this DPU is, and where its other services are."""

    name: str
    archive: str
    logs: str
    code: str


class SchedulerService(scheduler_pb2_grpc.SchedulerServiceServicer):
    """What people ask."""

    def __init__(self, loop: Loop, directory: Directory, identity: Identity, numbers: Numbers, traces: Traces) -> None:
        self._loop = loop
        self._traces = traces
        self._numbers = numbers
        self._directory = directory
        self._identity = identity

    async def GetDpu(
        self, _request: scheduler_pb2.GetDpuRequest, _context: ServicerContext[Any, Any]
    ) -> scheduler_pb2.GetDpuResponse:
        """Answer who this DPU is."""
        return scheduler_pb2.GetDpuResponse(
            name=self._identity.name,
            version=dpu.__version__,
            archive_address=self._identity.archive,
            logs_address=self._identity.logs,
            code_address=self._identity.code,
            slots=self._loop.state.presence.slots,
            open_jobs=self._loop.state.open_jobs,
            running_tasks=len(self._loop.state.leased),
            revision=self._loop.state.revision,
            user=current_caller().user,
        )

    async def GetCatalogue(
        self, _request: scheduler_pb2.GetCatalogueRequest, _context: ServicerContext[Any, Any]
    ) -> scheduler_pb2.GetCatalogueResponse:
        """Answer what the workers' own recipes can do."""
        catalogue = catalogue_pb2.Catalogue.FromString(self._loop.state.presence.catalogue)
        return scheduler_pb2.GetCatalogueResponse(catalogue=catalogue)

    async def SubmitJob(
        self, request: scheduler_pb2.SubmitJobRequest, _context: ServicerContext[Any, Any]
    ) -> scheduler_pb2.SubmitJobResponse:
        """Take a job."""
        async with arriving(self._loop) as arrival:
            command = await submission(self._loop, arrival, request, current_caller())
            if request.validate_only:
                return scheduler_pb2.SubmitJobResponse(job=_would_be(self._loop, self._loop.check(command)))
            job = await self._taken(command)
        if request.HasField("wait"):
            job = await self._changed(job.id, request.wait, lambda job: job.state.ended)
        return scheduler_pb2.SubmitJobResponse(job=wire.job_message(job))

    async def RetryJob(
        self, request: scheduler_pb2.RetryJobRequest, _context: ServicerContext[Any, Any]
    ) -> scheduler_pb2.RetryJobResponse:
        """Take a job that does again what an ended one did."""
        wish = wire.repeat(request, current_caller(), self._job(request.job_id))
        async with arriving(self._loop) as arrival:
            only_failed = request.only_failed
            command = await repetition(self._loop, self._directory, arrival, wish, only_failed=only_failed)
            job = await self._taken(command)
        return scheduler_pb2.RetryJobResponse(job=wire.job_message(job))

    async def _taken(self, command: Submit | Repeat) -> Job:
        """Return the job that was taken for a request, now or before."""
        await self._numbers.secure()
        await self._loop.execute(command)
        taken = self._loop.state.requests[command.project, command.user, command.request_id]
        self._traces.note(taken.job)
        return self._directory.job(taken.job, command.project)

    async def GetJob(
        self, request: scheduler_pb2.GetJobRequest, _context: ServicerContext[Any, Any]
    ) -> scheduler_pb2.GetJobResponse:
        """Answer one job."""
        return scheduler_pb2.GetJobResponse(job=wire.job_message(self._job(request.job_id)))

    async def ListJobs(
        self, request: scheduler_pb2.ListJobsRequest, _context: ServicerContext[Any, Any]
    ) -> scheduler_pb2.ListJobsResponse:
        """Answer a page of jobs."""
        project = current_caller().project
        listing = wire.listing(request, project)
        query = wire.query(request, project, position_of(request.page_token, listing))
        size = _page_size(request.page_size, JOBS_PAGE)
        found = self._directory.jobs(query, size + 1)
        more = page_token(found[size - 1].id, listing) if len(found) > size else ""
        shown = map(wire.job_message, found[:size])
        listed = list(shown) if request.job_ids else _but_rehearsals(shown)
        return scheduler_pb2.ListJobsResponse(jobs=listed, next_page_token=more)

    async def ListTasks(
        self, request: scheduler_pb2.ListTasksRequest, _context: ServicerContext[Any, Any]
    ) -> scheduler_pb2.ListTasksResponse:
        """Answer a page of one job's tasks."""
        job = self._job(request.job_id)
        listing = f"tasks {job.id}"
        first = position_of(request.page_token, listing)
        size = _page_size(request.page_size, MAX_PAGE)
        found = self._directory.tasks(job.id, first, size + 1)
        more = page_token(first + size, listing) if len(found) > size else ""
        shown = [wire.task_message(job, number, task) for number, task in enumerate(found[:size], first)]
        return scheduler_pb2.ListTasksResponse(tasks=shown, next_page_token=more)

    async def CancelJob(
        self, request: scheduler_pb2.CancelJobRequest, _context: ServicerContext[Any, Any]
    ) -> scheduler_pb2.CancelJobResponse:
        """Take the wish that a job ends."""
        job = self._job(request.job_id)
        happened: list[Event] = []
        if job.id in self._loop.state.jobs:
            happened = await self._loop.execute(wire.cancel(job.id, request.reason, current_caller()))
        accepted = any(isinstance(event, JobCancelRequested) for event in happened) or job.cancellation is not None
        return scheduler_pb2.CancelJobResponse(job=wire.job_message(self._job(job.id)), accepted=accepted)

    async def CancelJobs(
        self, request: scheduler_pb2.CancelJobsRequest, _context: ServicerContext[Any, Any]
    ) -> scheduler_pb2.CancelJobsResponse:
        """Take the wish that several jobs end, all or none."""
        caller = current_caller()
        named = [self._job(number).id for number in dict.fromkeys(request.job_ids)]
        numbers = named or own(self._loop.state, request, caller)
        commands = [wire.cancel(number, request.reason, caller) for number in numbers]
        jobs: list[job_pb2.Job] = []
        async for done in cancelling(self._loop, commands):
            jobs += [wire.job_message(self._job(number)) for number in done]
        return scheduler_pb2.CancelJobsResponse(jobs=jobs)

    async def ExplainJob(
        self, request: scheduler_pb2.ExplainJobRequest, _context: ServicerContext[Any, Any]
    ) -> scheduler_pb2.ExplainJobResponse:
        """Answer what a job waits for."""
        return wire.explanation(explain(self._loop.state, self._job(request.job_id), self._loop.now()))

    async def WatchJobs(
        self, request: scheduler_pb2.WatchJobsRequest, _context: ServicerContext[Any, Any]
    ) -> AsyncIterator[scheduler_pb2.WatchJobsResponse]:
        """Send jobs that changed, and go on whenever one does."""
        project = current_caller().project
        pause = min(MAX_WAIT_S, request.pause.ToNanoseconds() / 1e9) or WATCH_PAUSE_S
        seen = request.after_revision
        with self._loop.watchers.watching(JOBS) as bell:
            while True:
                bell.clear()
                changed = [(job, job.revision) for job in self._directory.changed(project, request.user, seen)]
                for first in range(0, len(changed), JOBS_PAGE):
                    # Those that change while others are sent come after the pause, in the order of their revisions.
                    page = [job for job, revision in changed[first : first + JOBS_PAGE] if job.revision == revision]
                    if jobs := _but_rehearsals(map(wire.job_message, page)):
                        yield scheduler_pb2.WatchJobsResponse(jobs=jobs)
                seen = changed[-1][1] if changed else seen
                await bell.wait()
                await asyncio.sleep(pause)

    async def ListWorkers(
        self, _request: scheduler_pb2.ListWorkersRequest, _context: ServicerContext[Any, Any]
    ) -> scheduler_pb2.ListWorkersResponse:
        """Answer the workers that are there."""
        return scheduler_pb2.ListWorkersResponse(workers=wire.workers(self._loop.state))

    async def CordonWorker(
        self, request: scheduler_pb2.CordonWorkerRequest, _context: ServicerContext[Any, Any]
    ) -> scheduler_pb2.CordonWorkerResponse:
        """Give a worker no more tasks, or some again."""
        await self._loop.execute(Cordon(worker=request.name, cordoned=request.cordoned, by=current_caller().user))
        return scheduler_pb2.CordonWorkerResponse()

    async def DrainWorker(
        self, request: scheduler_pb2.DrainWorkerRequest, _context: ServicerContext[Any, Any]
    ) -> scheduler_pb2.DrainWorkerResponse:
        """Give a worker no more tasks, and have it hand back those that it has."""
        await self._loop.execute(Drain(worker=request.name, by=current_caller().user))
        return scheduler_pb2.DrainWorkerResponse()

    async def GetTotals(
        self, request: scheduler_pb2.GetTotalsRequest, _context: ServicerContext[Any, Any]
    ) -> scheduler_pb2.GetTotalsResponse:
        """Answer what the project's jobs came to of late."""
        if not 0 <= request.days <= MOST_DAYS:
            raise UsageError(f"days={request.days}: must be from 1 to {MOST_DAYS}, or 0 for {DAYS}")
        since = int(self._loop.now() // DAY_S) + 1 - (request.days or DAYS)
        return wire.totals(partial(self._directory.totals, current_caller().project, since))

    async def SetAllowance(
        self, request: scheduler_pb2.SetAllowanceRequest, _context: ServicerContext[Any, Any]
    ) -> scheduler_pb2.SetAllowanceResponse:
        """Let a user or a project have so much."""
        await self._loop.execute(wire.set_allowance(request, current_caller()))
        return scheduler_pb2.SetAllowanceResponse()

    async def WaitJob(
        self, request: scheduler_pb2.WaitJobRequest, _context: ServicerContext[Any, Any]
    ) -> scheduler_pb2.WaitJobResponse:
        """Answer a job when it has changed."""
        job = await self._changed(
            request.job_id, request.timeout, lambda job: job.revision > request.after_revision or job.state.ended
        )
        return scheduler_pb2.WaitJobResponse(job=wire.job_message(job))

    async def _changed(self, number: int, wait: Duration, enough: Callable[[Job], bool]) -> Job:
        """Return a job when it has changed enough, or the time is up."""
        deadline = _now() + min(MAX_WAIT_S, wait.ToNanoseconds() / 1e9)
        with self._loop.watchers.watching(number) as bell:
            while True:
                bell.clear()
                job = self._job(number)
                if enough(job) or not await heard(bell, deadline - _now()):
                    return job

    def _job(self, number: int) -> Job:
        """Return a job that the caller may see. Raises NotFound."""
        return self._directory.job(number, current_caller().project)


def _but_rehearsals(jobs: Iterable[job_pb2.Job]) -> list[job_pb2.Job]:
    """Return jobs without dry runs, which make nothing and are shown to whoever names them alone."""
    return [job for job in jobs if "dryrun" not in job.options.entries]


def _would_be(loop: Loop, events: list[Event]) -> job_pb2.Job:
    """Return the job that would be taken, without an identifier."""
    state = State(deposits=dict(loop.state.deposits))
    for event in events:
        machine.apply(state, event)
    message = wire.job_message(next(iter(state.jobs.values())))
    message.ClearField("id")
    return message


def _page_size(asked: int, default: int) -> int:
    if asked < 0:
        raise UsageError(f"page_size={asked}: must be from 1 to {MAX_PAGE}, or 0 for {default}")
    return min(asked or default, MAX_PAGE)


def _now() -> float:
    return asyncio.get_running_loop().time()


class DispatchService(dispatch_pb2_grpc.DispatchServiceServicer):
    """What workers ask."""

    def __init__(self, loop: Loop, traces: Traces) -> None:
        self._loop = loop
        self._traces = traces
        self._polls = Polls()
        #: How many ends were told of leases that were another's by then.
        self.stale_reports = 0

    async def RegisterWorker(
        self, request: dispatch_pb2.RegisterWorkerRequest, _context: ServicerContext[Any, Any]
    ) -> dispatch_pb2.RegisterWorkerResponse:
        """Open a session."""
        session = str(uuid.uuid4())
        await self._loop.execute(wire_workers.register(request, session))
        return dispatch_pb2.RegisterWorkerResponse(
            session=session,
            lease_term=Duration(seconds=int(LEASE_TERM_S)),
            heartbeat=Duration(seconds=int(HEARTBEAT_S)),
        )

    async def Attend(
        self, requests: AsyncIterator[dispatch_pb2.AttendRequest], _context: ServicerContext[Any, Any]
    ) -> AsyncIterator[dispatch_pb2.AttendResponse]:
        """Take what a worker says, and say what there is to say."""
        words = _words(requests)
        first = await anext(words, None)
        if first is None:
            return
        with self._attending(first[0]) as attendance:
            async with aclosing(attendance.answers(first, words)) as answers:
                async for said in answers:
                    answer = wire_workers.work_response(self._loop.state, said, self._traces)
                    yield dispatch_pb2.AttendResponse(answer=answer, number=attendance.number)

    async def Work(
        self, request: dispatch_pb2.WorkRequest, _context: ServicerContext[Any, Any]
    ) -> dispatch_pb2.WorkResponse:
        """Take reports and renewals, and answer when there is something to say."""
        call = wire_workers.work(request)
        with self._attending(call) as attendance:
            await attendance.take(call)
            return wire_workers.work_response(self._loop.state, await attendance.news(), self._traces)

    @contextmanager
    def _attending(self, first: WorkCall) -> Iterator[Attendance]:
        with attending(self._loop, self._polls, first) as attendance:
            try:
                yield attendance
            finally:
                self.stale_reports += attendance.stale_reports

    async def ReportPlan(
        self, requests: AsyncIterator[dispatch_pb2.ReportPlanRequest], _context: ServicerContext[Any, Any]
    ) -> dispatch_pb2.ReportPlanResponse:
        """Take the answer of a plan task, all of it or nothing."""
        first = None
        async with arriving(self._loop) as arrival:
            async for request in requests:
                first = first or request
                await _taking(arrival, request, requests)
            if first is None:
                raise UsageError("a plan came without its first message")
            session_of(self._loop.state, first.session)
            plan = Plan(report=wire_workers.report(first.report), tasks=arrival.tasks, deposit=arrival.deposit)
            try:
                await self._loop.execute(plan)
            except StaleLease:
                self.stale_reports += 1
                raise
        return dispatch_pb2.ReportPlanResponse()


async def _taking(
    arrival: Arrival,
    request: dispatch_pb2.ReportPlanRequest,
    rest: AsyncIterator[dispatch_pb2.ReportPlanRequest],
) -> None:
    """Take the tasks of one message; where they are refused, hear the rest out: else its sender is not told why."""
    try:
        await arrival.take(request.tasks)
    except UsageError:
        async for _ in rest:
            pass
        raise


async def _words(requests: AsyncIterator[dispatch_pb2.AttendRequest]) -> AsyncIterator[tuple[WorkCall, int]]:
    async for request in requests:
        yield wire_workers.work(request.work, QUIET_S), request.heard
