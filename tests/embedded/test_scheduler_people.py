"""What people ask of many jobs, and operators of workers, through the real service."""

import asyncio
import uuid

import pytest
from google.protobuf.duration_pb2 import Duration

from dpu import errors
from dpu_api.v1 import job_pb2, scheduler_pb2
from dpu_api.v1.scheduler_pb2 import WaitReason
from fakes_house import House, ending, fails, specs, submission, until_ended

RECIPE = job_pb2.Failure(category=job_pb2.FAILURE_CATEGORY_RECIPE, message="no")


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def cancel_of(**overrides):
    return scheduler_pb2.CancelJobsRequest(**overrides)


async def test_several_jobs_are_cancelled_or_none(house):
    async with house.open() as callers:
        anna, bert = callers.person(), callers.person("bert")
        for person in (anna, anna, bert, anna):
            await person.SubmitJob(submission(tasks=specs("a")))
        await fails(anna.CancelJobs(cancel_of(job_ids=[1, 3])), errors.NotAllowed, "job 3 is bert's")
        await fails(anna.CancelJobs(cancel_of(job_ids=[1, 9])), errors.NotFound, "no job 9")
        await fails(anna.CancelJobs(cancel_of()), errors.UsageError, "which jobs are to end?")
        listed = await anna.ListJobs(scheduler_pb2.ListJobsRequest(states=[job_pb2.JOB_STATE_QUEUED]))
        assert len(listed.jobs) == 4
        answer = await anna.CancelJobs(cancel_of(job_ids=[1, 1], reason="wrong night"))
        assert [(job.id, job.cancellation.reason) for job in answer.jobs] == [(1, "wrong night")]
        assert not (await anna.CancelJobs(cancel_of(sequence="Dome"))).jobs
        assert [job.id for job in (await anna.CancelJobs(cancel_of(mine=True))).jobs] == [2, 4]
        assert (await until_ended(anna, 4)).state == job_pb2.JOB_STATE_CANCELLED
        assert (await bert.GetJob(scheduler_pb2.GetJobRequest(job_id=3))).job.state == job_pb2.JOB_STATE_QUEUED
        assert [job.id for job in (await callers.person("ruth").CancelJobs(cancel_of(job_ids=[3]))).jobs] == [3]


async def test_only_what_failed_is_retried_once_a_request(house):
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker()
        await anna.SubmitJob(submission(tasks=specs("good", "bad")))
        good, bad = (await worker.work(room=2)).leases
        request = scheduler_pb2.RetryJobRequest(request_id=str(uuid.uuid4()), job_id=1, only_failed=True)
        await fails(anna.RetryJob(request), errors.UsageError, "job 1 has not ended")
        await worker.work(ended=[ending(good), ending(bad, RECIPE)], wait=0.01)
        assert (await until_ended(anna, 1)).state == job_pb2.JOB_STATE_FAILED
        assert (await anna.RetryJob(request)).job.id == 2
        assert (await anna.RetryJob(request)).job.id == 2
        await fails(callers.person("bert", "atlas").RetryJob(request), errors.NotFound, "no job 1")
        [again] = (await worker.work(room=2)).leases
        assert (again.ref.job_id, again.spec.label, again.options.entries["instrument"].string_value) == (
            *(2, "bad"),
            "WFI",
        )


async def test_a_job_says_what_it_waits_for(house):
    async with house.open() as callers:
        anna = callers.person()
        await anna.SubmitJob(submission(tasks=specs("a")))
        found = await anna.ExplainJob(scheduler_pb2.ExplainJobRequest(job_id=1))
        assert [(wait.reason, wait.tasks) for wait in found.waits] == [(WaitReason.WAIT_REASON_NO_WORKER, 1)]
        assert (found.position, found.HasField("may_start")) == (1, False)
        await callers.worker()
        found = await anna.ExplainJob(scheduler_pb2.ExplainJobRequest(job_id=1))
        assert [wait.message for wait in found.waits] == ["waiting for a free slot"]
        assert found.HasField("may_start")
        other = callers.person("bert", "atlas")
        await fails(other.ExplainJob(scheduler_pb2.ExplainJobRequest(job_id=1)), errors.NotFound, "no job 1")


async def test_whoever_watches_sees_every_job_that_changes_and_resumes_where_it_was(house):
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker()
        await anna.SubmitJob(submission(tasks=specs("a")))
        await callers.person("bert", "atlas").SubmitJob(submission())
        watching = anna.WatchJobs(scheduler_pb2.WatchJobsRequest())
        first = await asyncio.wait_for(watching.read(), 5)
        assert [(job.id, job.state) for job in first.jobs] == [(1, job_pb2.JOB_STATE_QUEUED)]
        await worker.work(room=1)
        second = await asyncio.wait_for(watching.read(), 5)
        assert [(job.id, job.state) for job in second.jobs] == [(1, job_pb2.JOB_STATE_RUNNING)]
        watching.cancel()
        await anna.SubmitJob(submission())
        resumed = anna.WatchJobs(scheduler_pb2.WatchJobsRequest(after_revision=second.jobs[-1].revision))
        assert [job.id for job in (await asyncio.wait_for(resumed.read(), 5)).jobs] == [3]
        resumed.cancel()


async def test_all_that_is_in_memory_comes_in_pages(house):
    async with house.open() as callers:
        anna = callers.person()
        await asyncio.gather(*(anna.SubmitJob(submission(tasks=specs("a"))) for _ in range(120)))
        watching = anna.WatchJobs(scheduler_pb2.WatchJobsRequest(user="anna"))
        pages = [[job.revision for job in (await asyncio.wait_for(watching.read(), 5)).jobs] for _ in range(2)]
        assert [len(page) for page in pages] == [100, 20]
        assert pages[0] == sorted(pages[0])
        assert pages[0][-1] < pages[1][0]
        watching.cancel()


async def test_an_operator_cordons_a_worker_and_nobody_else_may(house):
    async with house.open() as callers:
        anna, ruth, worker = callers.person(), callers.person("ruth"), await callers.worker()
        cordon = scheduler_pb2.CordonWorkerRequest(name="w1", cordoned=True)
        await fails(anna.CordonWorker(cordon), errors.NotAllowed, "CordonWorker is not allowed to anna")
        await fails(anna.ListWorkers(scheduler_pb2.ListWorkersRequest()), errors.NotAllowed, "not allowed")
        await fails(anna.SetAllowance(scheduler_pb2.SetAllowanceRequest()), errors.NotAllowed, "not allowed")
        await anna.SubmitJob(submission(tasks=specs("a", "b")))
        await worker.work(room=1)
        await ruth.CordonWorker(cordon)
        [listed] = (await ruth.ListWorkers(scheduler_pb2.ListWorkersRequest())).workers
        assert (listed.name, listed.slots, listed.leases, listed.cordoned) == ("w1", 2, 1, True)
        waiting = asyncio.ensure_future(worker.work(room=1, wait=30))
        await asyncio.wait([waiting], timeout=0.1)
        assert not waiting.done()
        cordon.cordoned = False
        await ruth.CordonWorker(cordon)
        assert len((await asyncio.wait_for(waiting, 5)).leases) == 1


async def test_a_worker_that_is_drained_is_told_so_until_it_hands_back(house):
    async with house.open() as callers:
        anna, ruth, worker = callers.person(), callers.person("ruth"), await callers.worker()
        drain = scheduler_pb2.DrainWorkerRequest(name="w1")
        await fails(anna.DrainWorker(drain), errors.NotAllowed, "DrainWorker is not allowed to anna")
        await fails(ruth.DrainWorker(scheduler_pb2.DrainWorkerRequest(name="w9")), errors.NotFound, "no worker 'w9'")
        await anna.SubmitJob(submission(tasks=specs("a")))
        [lease] = (await worker.work(room=1)).leases
        waiting = asyncio.ensure_future(worker.work(held=[lease], room=1, wait=30))
        await ruth.DrainWorker(drain)
        answer = await asyncio.wait_for(waiting, 30)
        assert (answer.drain, len(answer.leases)) == (True, 0)
        assert (await worker.work(held=[lease], room=1, wait=30)).drain
        [listed] = (await ruth.ListWorkers(scheduler_pb2.ListWorkersRequest())).workers
        assert (listed.cordoned, listed.draining, listed.leases) == (True, True, 1)
        drained = job_pb2.Failure(category=job_pb2.FAILURE_CATEGORY_WORKER_DRAINED, message="the worker stops")
        answer = await worker.work(ended=[ending(lease, drained)], draining=True)
        assert (list(answer.acknowledged), answer.drain) == ([lease.ref], False)
        await worker.register()
        assert not (await worker.work(room=1, wait=0.01)).drain
        [listed] = (await ruth.ListWorkers(scheduler_pb2.ListWorkersRequest())).workers
        assert (listed.cordoned, listed.draining, listed.leases) == (True, False, 0)


async def test_a_drain_outlives_the_scheduler_until_the_worker_has_heard_it(house):
    drain = scheduler_pb2.DrainWorkerRequest(name="w1")
    async with house.open() as callers:
        await callers.worker()
        await callers.person("ruth").DrainWorker(drain)
    async with house.open() as callers:
        worker = await callers.worker()
        assert (await worker.work(room=1, wait=30)).drain
        assert not (await worker.work(draining=True, wait=0.01)).drain
    async with house.open() as callers:
        worker = await callers.worker()
        assert not (await worker.work(room=1, wait=0.01)).drain
        [listed] = (await callers.person("ruth").ListWorkers(scheduler_pb2.ListWorkersRequest())).workers
        assert (listed.cordoned, listed.draining) == (True, False)


async def test_an_estimate_is_what_earlier_tasks_took(house):
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker()
        await anna.SubmitJob(submission(tasks=specs("a")))
        [lease] = (await worker.work(room=1)).leases
        await worker.work(ended=[ending(lease, run_s=2.5)])
        assert (await anna.SubmitJob(submission(tasks=specs("b")))).job.estimate_s == 2.5
        # Its time limit goes by what the recipe declares all the same.
        assert (await worker.work(room=1)).leases[0].estimate_s == 10


async def test_an_allowance_holds_after_a_restart(house):
    async with house.open() as callers:
        ruth = callers.person("ruth")
        both = scheduler_pb2.SetAllowanceRequest(user="anna", project="kids")
        await fails(ruth.SetAllowance(both), errors.UsageError, "one of the two")
        await ruth.SetAllowance(scheduler_pb2.SetAllowanceRequest(user="anna", running=1, queued=2))
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker()
        await fails(anna.SubmitJob(submission(tasks=specs(*"abc"))), errors.Exhausted, "would have 3 open tasks")
        await anna.SubmitJob(submission(tasks=specs("a", "b")))
        assert len((await worker.work(room=2)).leases) == 1


async def test_jobs_are_found_by_their_words_and_added_up_by_day_user_and_sequence(house):
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker()
        for _ in range(3):
            await anna.SubmitJob(submission(tasks=specs("a")))
        first, second, _ = (await worker.work(room=3)).leases
        await worker.work(ended=[ending(first), ending(second, RECIPE)], wait=0.01)
        for number in (1, 2):
            await until_ended(anna, number)

        async def found(text):
            answer = await anna.ListJobs(scheduler_pb2.ListJobsRequest(search=text))
            return [job.id for job in answer.jobs]

        assert await found("anna wfi") == [3, 2, 1]
        assert await found("FAILED") == [2]
        assert await found("bert") == []
        totals = await anna.GetTotals(scheduler_pb2.GetTotalsRequest())
        assert [(each.name, each.totals.finished, each.totals.failed, each.totals.tasks) for each in totals.users] == [
            ("anna", 1, 1, 1)
        ]
        assert [each.totals for each in totals.days] == [each.totals for each in totals.users]
        assert (await callers.person("bert", "atlas").GetTotals(scheduler_pb2.GetTotalsRequest())).users[:] == []
        await fails(anna.GetTotals(scheduler_pb2.GetTotalsRequest(days=500)), errors.UsageError, "days=500")


async def test_changes_are_gathered_for_as_long_as_is_asked(house):
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker()
        await anna.SubmitJob(submission(tasks=specs("a")))
        watching = anna.WatchJobs(scheduler_pb2.WatchJobsRequest(pause=Duration(seconds=60)))
        assert [job.id for job in (await watching.read()).jobs] == [1]
        following = asyncio.ensure_future(watching.read())
        [lease] = (await worker.work(room=1)).leases
        await worker.work(ended=[ending(lease)], wait=0.01)
        await until_ended(anna, 1)
        assert not following.done()
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
