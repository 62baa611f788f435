"""What a worker is told on its stream."""

import asyncio

import pytest
from google.protobuf.duration_pb2 import Duration

from dpu import errors
from dpu_api.v1 import job_pb2, scheduler_pb2
from dpu_api.v1.dispatch_pb2 import PlannedTasks
from fakes_house import House, ending, fails, specs, submission, until_ended


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def planned(lease, *tasks):
    report = ending(lease, products=0)
    report.plan.CopyFrom(PlannedTasks(tasks=tasks))
    return report


async def test_who_submits_and_waits_is_answered_at_the_end_of_the_job(house):
    async with house.open() as callers:
        worker = await callers.worker()
        async with worker.attending() as stream:
            await stream.say(room=2, wait=30)
            request = submission(tasks=specs("a"), wait=Duration(seconds=60))
            waiting = asyncio.ensure_future(callers.person().SubmitJob(request))
            [lease] = (await stream.hear()).leases
            assert lease.spec.label == "a"
            await stream.say(ended=[ending(lease)], room=2, wait=30)
            job = (await asyncio.wait_for(waiting, 60)).job
            assert (job.state, job.counts.normal) == (job_pb2.JOB_STATE_FINISHED, 1)
            request.ClearField("wait")
            assert (await callers.person().SubmitJob(request)).job == job


async def test_who_waits_for_too_short_a_time_is_told_how_the_job_stands(house):
    async with house.open() as callers:
        request = submission(tasks=specs("a"), wait=Duration(nanos=1_000_000))
        assert (await callers.person().SubmitJob(request)).job.state == job_pb2.JOB_STATE_QUEUED


async def test_room_stands_until_it_is_used_or_another_is_named(house):
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker()
        async with worker.attending() as stream:
            await stream.say(room=2, wait=1)
            assert not (await stream.hear()).leases
            for label in ("a", "b", "c"):
                await anna.SubmitJob(submission(tasks=specs(label)))
            given = [*(await stream.hear()).leases]
            while len(given) < 2:
                given += (await stream.hear()).leases
            assert [lease.spec.label for lease in given] == ["a", "b"]
            assert not (await stream.hear()).leases
            await stream.say(ended=[ending(given[0])], room=1, wait=30)
            answer = await stream.hear()
            assert [lease.spec.label for lease in answer.leases] == ["c"]
            assert list(answer.acknowledged) == [given[0].ref]


async def test_leases_that_a_worker_had_not_heard_of_count_as_its_room(house):
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker()
        async with worker.attending() as stream:
            await stream.say(room=2, wait=30)
            await anna.SubmitJob(submission(tasks=specs("a", "b", "c", "d")))
            assert len((await stream.hear()).leases) == 2
            # What was on its way when the worker said this does not count yet: it has heard nothing.
            stream.heard = 0
            await stream.say(room=3, wait=30)
            stream.heard = 1
            [only] = (await stream.hear()).leases
            assert only.spec.label == "c"


async def test_what_ended_and_what_follows_travel_in_one_answer(house):
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker()
        async with worker.attending() as stream:
            await stream.say(room=1, wait=30)
            await anna.SubmitJob(submission())
            [plan] = (await stream.hear()).leases
            assert plan.plan
            await stream.say(ended=[planned(plan, *specs("ccd50", "ccd51"))], room=1, wait=30)
            answer = await stream.hear()
            assert (list(answer.acknowledged), [lease.spec.label for lease in answer.leases]) == ([plan.ref], ["ccd50"])
            await stream.say(ended=[planned(plan, *specs("other"))], held=answer.leases, wait=30)
            assert list((await stream.hear()).acknowledged) == [plan.ref]
            job = (await anna.GetJob(scheduler_pb2.GetJobRequest(job_id=1))).job
            assert job.counts == job_pb2.TaskCounts(submitted=2)


async def test_a_plan_that_is_refused_makes_its_task_fail_with_the_reason(house):
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker()
        async with worker.attending() as stream:
            await stream.say(room=1, wait=30)
            await anna.SubmitJob(submission())
            [plan] = (await stream.hear()).leases
            bad = job_pb2.TaskSpec(label="ccd50", memory_mib=-1)
            await stream.say(ended=[planned(plan, bad)], wait=30)
            assert list((await stream.hear()).acknowledged) == [plan.ref]
            assert (await until_ended(anna, 1)).state == job_pb2.JOB_STATE_FAILED
            [task] = (await anna.ListTasks(scheduler_pb2.ListTasksRequest(job_id=1))).tasks
            assert "ccd50" in task.failure.message


async def test_a_plan_of_a_lost_lease_is_stale_and_changes_nothing(house):
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker()
        async with worker.attending() as stream:
            await stream.say(room=1, wait=30)
            await anna.SubmitJob(submission())
            [plan] = (await stream.hear()).leases
            plan.token += "x"
            await stream.say(ended=[planned(plan, *specs("a"))], wait=30)
            assert list((await stream.hear()).stale) == [plan.ref]


async def test_a_cancel_reaches_a_running_task_at_once_and_once(house):
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker()
        async with worker.attending() as stream:
            await stream.say(room=1, wait=30)
            await anna.SubmitJob(submission(tasks=specs("a")))
            [lease] = (await stream.hear()).leases
            await anna.CancelJob(scheduler_pb2.CancelJobRequest(job_id=1, reason="wrong night"))
            assert list((await stream.hear()).cancel) == [lease.ref]
            cancelled = job_pb2.Failure(category=job_pb2.FAILURE_CATEGORY_CANCELLED, message="stopped")
            await stream.say(ended=[ending(lease, cancelled)], wait=30)
            answer = await stream.hear()
            assert (list(answer.cancel), list(answer.acknowledged)) == ([], [lease.ref])


async def test_a_newer_stream_ends_the_older(house):
    async with house.open() as callers:
        worker = await callers.worker()
        async with worker.attending() as older, worker.attending() as newer:
            await older.say(room=1, wait=1)
            await older.hear()
            await newer.say(room=1, wait=30)
            assert await older.hear() is None
            await callers.person().SubmitJob(submission(tasks=specs("a")))
            assert len((await newer.hear()).leases) == 1


async def test_leases_that_were_lost_with_a_stream_are_told_again_on_the_next(house):
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker()
        async with worker.attending() as stream:
            await stream.say(room=3, wait=30)
            await anna.SubmitJob(submission(tasks=specs("a", "b", "c")))
            first, *others = (await stream.hear()).leases
        async with worker.attending() as stream:
            # It never heard of two of them, and has room for one more.
            await stream.say(held=[first], room=3, wait=30)
            await anna.SubmitJob(submission(tasks=specs("d", "e")))
            told = [*(await stream.hear()).leases]
            while len(told) < 3:
                told += (await stream.hear()).leases
            assert told[:2] == others
            assert [lease.spec.label for lease in told[2:]] == ["d"]
            await stream.say(ended=[ending(lease) for lease in (first, *others)], wait=30)
            assert len((await stream.hear()).acknowledged) == 3
            assert (await until_ended(anna, 1)).counts.normal == 3
            tasks = (await anna.ListTasks(scheduler_pb2.ListTasksRequest(job_id=1))).tasks
            assert {task.ref.attempt for task in tasks} == {1}


async def test_a_worker_that_says_its_last_ends_its_stream(house):
    async with house.open() as callers:
        worker = await callers.worker()
        async with worker.attending() as stream:
            await stream.say(draining=True, wait=30)
            await stream.call.done_writing()
            assert await stream.hear() is None


async def test_a_session_that_is_over_or_unknown_has_to_register_anew(house):
    async with house.open() as callers:
        worker = await callers.worker()
        async with worker.attending() as stream:
            await stream.say(room=1, wait=1)
            await stream.hear()
            await worker.register()
            await fails(stream.call.read(), errors.UnknownSession, "register anew")
        worker.session = "made up"
        async with worker.attending() as stream:
            await stream.say(room=1)
            await fails(stream.call.read(), errors.UnknownSession, "register anew")


async def test_a_worker_is_told_once_that_an_operator_drains_it(house):
    async with house.open() as callers:
        worker = await callers.worker()
        async with worker.attending() as stream:
            await stream.say(room=1, wait=1)
            await stream.hear()
            await callers.person("ruth").DrainWorker(scheduler_pb2.DrainWorkerRequest(name="w1"))
            assert (await stream.hear()).drain
            assert not (await stream.hear()).drain


async def test_no_lease_is_lost_where_words_of_the_worker_and_new_jobs_meet(house):
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker()
        async with worker.attending() as stream:
            submitting = asyncio.gather(*(anna.SubmitJob(submission(tasks=specs(str(each)))) for each in range(60)))
            await stream.say(room=2, wait=30)
            ended = 0
            while ended < 60:
                leases = (await stream.hear()).leases
                for lease in leases:
                    ended += 1
                    await stream.say(ended=[ending(lease)], room=2, wait=30)
            await submitting
