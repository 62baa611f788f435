"""What makes no sense is refused with the error that the contract documents, and nothing changes."""

import asyncio
import sqlite3
import uuid
import zlib
from contextlib import asynccontextmanager, closing

import pytest
from grpc import aio

from dpu import errors
from dpu.channel import metadata
from dpu_api.v1 import dispatch_pb2, job_pb2, scheduler_pb2
from dpud.scheduler import codec, machine
from dpud.scheduler.model import State
from fakes_house import House, ending, fails, specs, submission

MADE_UP = "MTc"
NOWHERE = [0, -1, 9, 2**62]
#: A SubmitJobRequest's field `tasks`, with nothing in it.
EMPTY_TASK = b"\x42\x00"


@pytest.fixture
async def house(tmp_path):
    return House(tmp_path)


@asynccontextmanager
async def unchanged(house, what=None):
    """Check that the journal, or `what` it says, is the same after the block."""
    what = what or journaled
    before = what(house)
    yield
    assert what(house) == before


def journaled(house):
    with closing(sqlite3.connect(house.settings.state / "journal.sqlite")) as journal:
        return journal.execute("SELECT number, body FROM event_group ORDER BY number").fetchall()


def told(house):
    """Return the state that the journal tells."""
    state = State()
    for _, body in journaled(house):
        for event in codec.load_events(zlib.decompress(body)):
            machine.apply(state, event)
    return state


def calls(number):
    """Return every call about a job, by name."""
    return {
        "GetJob": scheduler_pb2.GetJobRequest(job_id=number),
        "ListTasks": scheduler_pb2.ListTasksRequest(job_id=number),
        "WaitJob": scheduler_pb2.WaitJobRequest(job_id=number),
        "ExplainJob": scheduler_pb2.ExplainJobRequest(job_id=number),
        "CancelJob": scheduler_pb2.CancelJobRequest(job_id=number),
        "CancelJobs": scheduler_pb2.CancelJobsRequest(job_ids=[1, number]),
        "RetryJob": scheduler_pb2.RetryJobRequest(job_id=number, request_id=str(uuid.uuid4())),
    }


async def test_a_job_that_is_not_there_is_not_found(house):
    async with house.open() as callers:
        anna = callers.person()
        await anna.SubmitJob(submission())
        async with unchanged(house):
            for number in NOWHERE:
                for name, request in calls(number).items():
                    await fails(getattr(anna, name)(request), errors.NotFound, f"there is no job {number} in project")


async def test_another_projects_job_reads_like_one_that_is_not_there(house):
    async with house.open() as callers:
        await callers.person().SubmitJob(submission())
        stranger = callers.person("bert", "atlas")
        async with unchanged(house):
            for name, request in calls(1).items():
                await fails(getattr(stranger, name)(request), errors.NotFound, "there is no job 1 in project 'atlas'")
        assert not (await stranger.ListJobs(scheduler_pb2.ListJobsRequest(job_ids=[1]))).jobs


async def test_somebody_elses_job_is_not_cancelled_alone_or_among_ones_own(house):
    async with house.open() as callers:
        await callers.person().SubmitJob(submission())
        bert = callers.person("bert")
        await bert.SubmitJob(submission())
        async with unchanged(house):
            await fails(bert.CancelJob(scheduler_pb2.CancelJobRequest(job_id=1)), errors.NotAllowed, "job 1 is anna's")
            both = scheduler_pb2.CancelJobsRequest(job_ids=[2, 1])
            await fails(bert.CancelJobs(both), errors.NotAllowed, "job 1 is anna's")


async def test_a_page_token_that_was_made_up_or_is_another_listings_is_refused(house):
    async with house.open() as callers:
        anna = callers.person()
        for _ in range(2):
            await anna.SubmitJob(submission(tasks=specs("a", "b")))
        of_jobs = (await anna.ListJobs(scheduler_pb2.ListJobsRequest(page_size=1))).next_page_token
        of_tasks = (await anna.ListTasks(scheduler_pb2.ListTasksRequest(job_id=1, page_size=1))).next_page_token
        async with unchanged(house):
            for token in (MADE_UP, "é", "=" * 9_000, of_tasks, of_jobs[:-1]):
                request = scheduler_pb2.ListJobsRequest(page_token=token)
                await fails(anna.ListJobs(request), errors.UsageError, "is not one of this listing's")
            for token in (MADE_UP, of_jobs):
                request = scheduler_pb2.ListTasksRequest(job_id=1, page_token=token)
                await fails(anna.ListTasks(request), errors.UsageError, "is not one of this listing's")
            other = scheduler_pb2.ListTasksRequest(job_id=2, page_token=of_tasks)
            await fails(anna.ListTasks(other), errors.UsageError, "is not one of this listing's")
            less = scheduler_pb2.ListJobsRequest(page_size=-1)
            await fails(anna.ListJobs(less), errors.UsageError, "page_size=-1")


async def test_a_request_id_that_comes_again_with_other_content_is_refused(house):
    async with house.open() as callers:
        anna = callers.person()
        request = submission(tasks=specs("a"))
        await anna.SubmitJob(request)
        async with unchanged(house):
            assert (await anna.SubmitJob(request)).job.id == 1
            for other in (
                submission(request_id=request.request_id, tasks=specs("b")),
                submission(request_id=request.request_id, tasks=specs("a"), priority=1),
            ):
                await fails(anna.SubmitJob(other), errors.Conflict, "was used for another job, 1: take a new one")
            again = scheduler_pb2.RetryJobRequest(job_id=1, request_id=request.request_id)
            await fails(anna.RetryJob(again), errors.Conflict, "was used for another job, 1: take a new one")


async def test_a_description_of_code_that_is_no_line_of_a_log_is_refused(house):
    async with house.open() as callers, unchanged(house):
        anna = callers.person()
        for description in ("4f1a\nForged line of a log", "4f1a\x1b[2J", "x" * 501):
            request = submission(code_digest="4f1a", code_description=description)
            await fails(anna.SubmitJob(request), errors.UsageError, "must be one line of at most 500 characters")


async def test_a_job_of_ten_million_tasks_is_over_what_a_call_may_hold(house):
    async with house.open():
        request = submission().SerializeToString() + EMPTY_TASK * 10**7
        # As a client of somebody's own making sends it: ours has a limit of its own.
        options = [("grpc.max_send_message_length", -1)]
        async with (
            unchanged(house),
            aio.insecure_channel(house.address, options=options) as channel,
        ):
            submit = channel.unary_unary("/dpu_api.v1.SchedulerService/SubmitJob", request_serializer=bytes)
            await fails(submit(request, metadata=metadata("anna", "kids")), errors.Exhausted, "larger than max")


async def test_a_job_of_more_tasks_than_one_may_have_is_refused(house):
    async with house.open() as callers:
        anna = callers.person()
        tasks = [job_pb2.TaskSpec()] * 100_001
        async with unchanged(house):
            await fails(anna.SubmitJob(submission(tasks=tasks)), errors.UsageError, "100001 tasks are too many")
        await callers.person("ruth").SetAllowance(scheduler_pb2.SetAllowanceRequest(user="anna", queued=2))
        async with unchanged(house):
            over = submission(tasks=specs(*"abc"))
            await fails(anna.SubmitJob(over), errors.Exhausted, "user anna would have 3 open tasks and may have 2")
            over.validate_only = True
            await fails(anna.SubmitJob(over), errors.Exhausted, "user anna would have 3 open tasks and may have 2")


async def test_a_job_of_more_bytes_than_its_project_may_have_queued_is_refused(house):
    async with house.open() as callers:
        anna, ruth = callers.person(), callers.person("ruth")
        await ruth.SetAllowance(scheduler_pb2.SetAllowanceRequest(project="kids", queued_bytes=1_000))
        await anna.SubmitJob(submission(tasks=specs("a" * 300)))
        async with unchanged(house):
            over = submission(tasks=specs("b" * 300))
            await fails(
                anna.SubmitJob(over), errors.Exhausted, "bytes of options and tasks in open jobs and may have 1000"
            )
            less = scheduler_pb2.SetAllowanceRequest(project="kids", queued_bytes=-1)
            await fails(ruth.SetAllowance(less), errors.UsageError, "from 0 up")
        assert (await callers.person("anna", "atlas").SubmitJob(over)).job.id == 2


async def test_a_plan_of_ten_million_tasks_is_refused_and_its_lease_stands(house):
    async with house.open() as callers:
        await callers.person().SubmitJob(submission())
        worker = await callers.worker()
        [lease] = (await worker.work(room=1)).leases

        async def messages():
            yield dispatch_pb2.ReportPlanRequest(session=worker.session, report=ending(lease))
            part = dispatch_pb2.ReportPlanRequest(tasks=[job_pb2.TaskSpec()] * 10_000)
            for _ in range(1_000):
                yield part

        async with unchanged(house, told):
            await fails(
                worker.stub.ReportPlan(messages()), errors.UsageError, "are too many for one job: at most 100000"
            )
            assert not (await worker.work(held=[lease], wait=0.01)).stale


async def test_what_a_worker_makes_up_changes_nothing(house):
    async with house.open() as callers:
        await callers.person().SubmitJob(submission(tasks=specs("a")))
        worker = await callers.worker()
        [lease] = (await worker.work(room=1)).leases
        made_up = [dispatch_pb2.TaskLease(ref=lease.ref, token=MADE_UP)]
        for job, task, attempt in ((1, 0, 2), (1, 7, 1), (1, -1, 1), (9, 0, 1), (0, 0, 0)):
            ref = job_pb2.TaskRef(job_id=job, task=task, attempt=attempt)
            made_up.append(dispatch_pb2.TaskLease(ref=ref, token=lease.token))
        async with unchanged(house):
            answer = await worker.work(ended=[ending(wrong) for wrong in made_up], wait=0.01)
            assert (list(answer.stale), len(answer.acknowledged)) == ([wrong.ref for wrong in made_up], 0)
            for wrong in made_up:
                await fails(worker.plan(wrong, "b"), errors.StaleLease, "drop it")
            worker.session = str(uuid.uuid4())
            await fails(worker.work(), errors.UnknownSession, "register anew")
            await fails(worker.plan(lease, "b"), errors.UnknownSession, "register anew")


async def test_a_wait_without_an_end_is_cut_short(house):
    async with house.open() as callers:
        await callers.person().SubmitJob(submission())
        request = scheduler_pb2.WaitJobRequest(job_id=1, after_revision=2**62)
        request.timeout.FromSeconds(-5)
        answer = await asyncio.wait_for(callers.person().WaitJob(request), 60)
        assert answer.job.id == 1
