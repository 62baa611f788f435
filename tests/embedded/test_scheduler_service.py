import asyncio
import uuid
from contextlib import closing

import pytest

from dpu import errors
from dpu_api.v1 import catalogue_pb2, dispatch_pb2_grpc, job_pb2, scheduler_pb2
from dpud.scheduler import arrivals, wire
from dpud.scheduler.journal import Superseded
from dpud.scheduler.journal_sql import SqlJournal
from fakes_house import House, ending, fails, specs, submission, until_ended
from fakes_scheduler import until

MADE_UP = "MTc"


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


async def test_a_job_goes_from_submit_to_its_end_and_others_are_told(house):
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker()
        job = (await anna.SubmitJob(submission())).job
        assert (job.id, job.state, job.user, job.project) == (1, job_pb2.JOB_STATE_QUEUED, "anna", "kids")
        [plan] = (await worker.work(room=2)).leases
        assert (plan.plan, plan.recipe, plan.limits.time_s) == (True, "Bias", 60)
        await worker.plan(plan, "ccd50", "ccd51")
        first, second = (await worker.work(room=2)).leases
        assert (first.spec.label, list(first.spec.inputs), first.limits.memory_mib) == ("ccd50", ["f1"], 300)
        assert first.options.entries["instrument"].string_value == "WFI"
        answer = await worker.work(ended=[ending(first), ending(second, products=0)])
        assert list(answer.acknowledged) == [first.ref, second.ref]
        await until_ended(anna, 1)
        done = (await anna.GetJob(scheduler_pb2.GetJobRequest(job_id=1))).job
        assert (done.state, done.counts) == (job_pb2.JOB_STATE_FINISHED, job_pb2.TaskCounts(normal=2))
    assert house.archive.told == [("publish", 1, 1, 1, True)]
    assert sorted(house.logs.told[:3]) == [
        ("close_task", 1, 0, 1, job_pb2.TASK_STATE_SUCCEEDED, 3),
        ("close_task", 1, 1, 1, job_pb2.TASK_STATE_SUCCEEDED, 3),
        ("close_task", 1, 2, 1, job_pb2.TASK_STATE_SUCCEEDED, 3),
    ]
    assert house.logs.told[3:] == [("close_job", 1, job_pb2.JOB_STATE_FINISHED)]


async def test_a_waiting_call_is_answered_as_soon_as_there_is_work(house):
    async with house.open() as callers:
        worker = await callers.worker()
        waiting = asyncio.ensure_future(worker.work(room=1, wait=30))
        await callers.person().SubmitJob(submission(tasks=specs("a")))
        answer = await asyncio.wait_for(waiting, 1)
        assert [lease.spec.label for lease in answer.leases] == ["a"]


async def test_a_cancel_reaches_a_running_task_at_once_and_once(house):
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker()
        await anna.SubmitJob(submission(tasks=specs("a")))
        [lease] = (await worker.work(room=1)).leases
        waiting = asyncio.ensure_future(worker.work(held=[lease], room=1, wait=30))
        answer = await anna.CancelJob(scheduler_pb2.CancelJobRequest(job_id=1, reason="wrong night"))
        assert (answer.accepted, answer.job.state) == (True, job_pb2.JOB_STATE_CANCELLING)
        assert (answer.job.cancellation.by, answer.job.cancellation.reason) == ("anna", "wrong night")
        assert list((await asyncio.wait_for(waiting, 1)).cancel) == [lease.ref]
        again = await worker.work(held=[lease], wait=0.05)
        assert list(again.cancel) == [lease.ref]
        cancelled = job_pb2.Failure(category=job_pb2.FAILURE_CATEGORY_CANCELLED, message="stopped")
        await worker.work(ended=[ending(lease, cancelled)])
        job = await until_ended(anna, 1)
        assert (job.state, job.counts.aborted) == (job_pb2.JOB_STATE_CANCELLED, 1)
        answer = await anna.CancelJob(scheduler_pb2.CancelJobRequest(job_id=1))
        assert answer.job.state == job_pb2.JOB_STATE_CANCELLED


async def test_cancelling_a_finished_job_is_not_accepted(house):
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker()
        await anna.SubmitJob(submission(tasks=specs("a")))
        [lease] = (await worker.work(room=1)).leases
        await worker.work(ended=[ending(lease)])
        await until_ended(anna, 1)
        answer = await anna.CancelJob(scheduler_pb2.CancelJobRequest(job_id=1))
        assert (answer.accepted, answer.job.state) == (False, job_pb2.JOB_STATE_FINISHED)


async def test_a_newer_call_answers_the_older_at_once(house):
    async with house.open() as callers:
        worker = await callers.worker()
        older = asyncio.ensure_future(worker.work(room=1, wait=30))
        await asyncio.wait([older], timeout=0.05)
        newer = asyncio.ensure_future(worker.work(room=1, wait=30))
        assert not (await asyncio.wait_for(older, 1)).leases
        await callers.person().SubmitJob(submission(tasks=specs("a")))
        assert (await asyncio.wait_for(newer, 1)).leases


async def test_a_task_that_crashed_beside_others_runs_alone_next(house):
    async with house.open() as callers:
        worker = await callers.worker()
        await callers.person().SubmitJob(submission(tasks=specs("a")))
        crash = job_pb2.Failure(category=job_pb2.FAILURE_CATEGORY_CRASH, message="signal 11")
        [lease] = (await worker.work(room=1)).leases
        await worker.work(ended=[ending(lease, crash)])
        [again] = (await worker.work(room=1, wait=30)).leases
        assert (lease.alone, again.alone, again.ref.attempt) == (False, True, 2)


async def test_an_older_attempts_report_is_stale(house):
    async with house.open() as callers:
        worker = await callers.worker()
        await callers.person().SubmitJob(submission(tasks=specs("a")))
        [lease] = (await worker.work(room=1)).leases
        await worker.register()
        assert list((await worker.work(ended=[ending(lease)])).acknowledged) == [lease.ref]
        assert list((await worker.work(ended=[ending(lease)])).acknowledged) == [lease.ref]
        lease.token += "x"
        assert list((await worker.work(ended=[ending(lease)])).stale) == [lease.ref]
        assert list((await worker.work(held=[lease])).stale) == [lease.ref]


async def test_an_unknown_session_registers_anew_and_goes_on(house):
    async with house.open() as callers:
        worker = await callers.worker()
        await callers.person().SubmitJob(submission(tasks=specs("a")))
        [lease] = (await worker.work(room=1)).leases
    async with house.open() as callers:
        late = dispatch_pb2_grpc.DispatchServiceStub(callers._open("worker", ""))
        worker.stub = late
        await fails(worker.work(held=[lease]), errors.UnknownSession, "register anew")
        await worker.register()
        assert not (await worker.work(held=[lease], wait=0.01)).stale
        assert list((await worker.work(ended=[ending(lease)])).acknowledged) == [lease.ref]
        assert (await until_ended(callers.person(), 1)).state == job_pb2.JOB_STATE_FINISHED


async def test_the_same_request_gives_the_same_job_after_a_restart(house):
    request = submission()
    async with house.open() as callers:
        assert (await callers.person().SubmitJob(request)).job.id == 1
    async with house.open() as callers:
        assert (await callers.person().SubmitJob(request)).job.id == 1
        request.commit = False
        await fails(callers.person().SubmitJob(request), errors.Conflict, "used for another job, 1")
        assert (await callers.person().SubmitJob(submission())).job.id == 2


async def test_wrong_submissions_are_refused_and_store_nothing(house):
    async with house.open() as callers:
        anna = callers.person()
        wrong = job_pb2.ValueMap(entries={"instrumint": job_pb2.Value(string_value="WFI")})
        await fails(anna.SubmitJob(submission(options=wrong)), errors.UnknownOption, "did you mean 'instrument'?")
        await fails(anna.SubmitJob(submission(request_id="17")), errors.UsageError, "request_id='17': must be a UUID")
        await fails(
            anna.SubmitJob(submission(sequence=catalogue_pb2.Sequence(name="Bias"))), errors.UsageError, "0 stages"
        )
        await fails(anna.SubmitJob(submission(priority=101)), errors.UsageError, "dpu_priority=101")
        would_be = (await anna.SubmitJob(submission(validate_only=True, request_id=""))).job
        assert (would_be.id, would_be.sequence, would_be.estimate_s) == (0, "Bias", 10)
        assert not (await anna.ListJobs(scheduler_pb2.ListJobsRequest())).jobs


async def test_a_dry_run_is_shown_to_whoever_names_it_alone(house):
    async with house.open() as callers:
        anna, rehearsal = callers.person(), submission()
        kind = catalogue_pb2.OPTION_KIND_FLAG
        rehearsal.sequence.options.add(short_name="dryrun", long_name="dryrun", kind=kind, unlisted=True)
        rehearsal.options.entries["dryrun"].int_value = 1
        await anna.SubmitJob(rehearsal)
        await anna.SubmitJob(submission())
        listed = await anna.ListJobs(scheduler_pb2.ListJobsRequest())
        named = await anna.ListJobs(scheduler_pb2.ListJobsRequest(job_ids=[1]))
        assert ([job.id for job in listed.jobs], [job.id for job in named.jobs]) == ([2], [1])
        changes = anna.WatchJobs(scheduler_pb2.WatchJobsRequest())
        assert [job.id for job in (await changes.read()).jobs] == [2]
        changes.cancel()


async def test_jobs_of_another_project_do_not_exist(house):
    async with house.open() as callers:
        await callers.person().SubmitJob(submission())
        other = callers.person("bert", "atlas")
        await fails(other.GetJob(scheduler_pb2.GetJobRequest(job_id=1)), errors.NotFound, "no job 1 in project 'atlas'")
        await fails(other.GetJob(scheduler_pb2.GetJobRequest(job_id=9)), errors.NotFound, "no job 9 in project 'atlas'")
        await fails(other.CancelJob(scheduler_pb2.CancelJobRequest(job_id=1)), errors.NotFound, "no job 1")
        assert not (await other.ListJobs(scheduler_pb2.ListJobsRequest())).jobs
        neighbour = callers.person("bert")
        await fails(neighbour.CancelJob(scheduler_pb2.CancelJobRequest(job_id=1)), errors.NotAllowed, "job 1 is anna's")
        assert (await callers.person("ruth").CancelJob(scheduler_pb2.CancelJobRequest(job_id=1))).accepted


async def test_lists_are_paged_and_a_made_up_token_is_refused(house):
    async with house.open() as callers:
        anna = callers.person()
        for _ in range(3):
            await anna.SubmitJob(submission(tasks=specs("a", "b", "c")))
        page = await anna.ListJobs(scheduler_pb2.ListJobsRequest(page_size=2))
        assert [job.id for job in page.jobs] == [3, 2]
        rest = scheduler_pb2.ListJobsRequest(page_size=2, page_token=page.next_page_token)
        last = await anna.ListJobs(rest)
        assert ([job.id for job in last.jobs], last.next_page_token) == ([1], "")
        rest.user = "bert"
        await fails(anna.ListJobs(rest), errors.UsageError, "is not one of this listing's")
        await fails(anna.ListJobs(scheduler_pb2.ListJobsRequest(page_token=MADE_UP)), errors.UsageError, "'MTc'")
        tasks = await anna.ListTasks(scheduler_pb2.ListTasksRequest(job_id=1, page_size=2))
        assert [task.label for task in tasks.tasks] == ["a", "b"]
        more = scheduler_pb2.ListTasksRequest(job_id=1, page_token=tasks.next_page_token)
        assert [task.label for task in (await anna.ListTasks(more)).tasks] == ["c"]


async def test_lists_are_filtered(house):
    async with house.open() as callers:
        await callers.person().SubmitJob(submission())
        await callers.person("bert").SubmitJob(submission())
        await callers.person("bert").CancelJob(scheduler_pb2.CancelJobRequest(job_id=2))
        await until_ended(callers.person(), 2)

        async def listed(**filters):
            answer = await callers.person().ListJobs(scheduler_pb2.ListJobsRequest(**filters))
            return [job.id for job in answer.jobs]

        assert await listed() == [2, 1]
        assert await listed(user="bert") == [2]
        assert await listed(states=[job_pb2.JOB_STATE_QUEUED]) == [1]
        assert await listed(sequence="Dome") == []
        assert await listed(job_ids=[1, 77]) == [1]
        assert await listed(ended_after={"seconds": 4_000_000_000}) == [1]


async def test_the_dpu_says_who_it_is_and_what_its_workers_can_do(house):
    async with house.open() as callers:
        anna = callers.person()
        assert not (await anna.GetCatalogue(scheduler_pb2.GetCatalogueRequest())).catalogue.sequences
        await callers.worker(slots=3)
        await anna.SubmitJob(submission())
        who = await anna.GetDpu(scheduler_pb2.GetDpuRequest())
        assert (who.name, who.archive_address, who.slots, who.open_jobs) == ("trial", house.address, 3, 1)
        catalogue = (await anna.GetCatalogue(scheduler_pb2.GetCatalogueRequest())).catalogue
        assert (catalogue.version, catalogue.sequences[0].name) == ("7", "Bias")


async def test_a_plan_is_told_what_its_code_is_called_also_when_it_is_done_again(house):
    async with house.open() as callers:
        anna, worker = callers.person(), await callers.worker()
        await anna.SubmitJob(submission(code_digest="4f1a", code_description="4f1a, git 90ab + 1 changed file"))
        [plan] = (await worker.work(room=1)).leases
        assert (plan.plan, plan.code_description) == (True, "4f1a, git 90ab + 1 changed file")
        await worker.plan(plan, "ccd50")
        [task] = (await worker.work(room=1)).leases
        assert (task.plan, task.code_description) == (False, "")
        failure = job_pb2.Failure(category=job_pb2.FailureCategory.FAILURE_CATEGORY_RECIPE, message="no")
        await worker.work(ended=[ending(task, failure=failure)], wait=0)
        await until_ended(anna, 1)
        await anna.RetryJob(scheduler_pb2.RetryJobRequest(job_id=1, request_id=str(uuid.uuid4())))
        [again] = (await worker.work(room=1)).leases
        assert (again.plan, again.code_description) == (True, plan.code_description)


async def test_a_stale_plan_is_refused(house):
    async with house.open() as callers:
        worker = await callers.worker()
        await callers.person().SubmitJob(submission())
        [lease] = (await worker.work(room=1)).leases
        good = lease.token
        lease.token += "x"
        await fails(worker.plan(lease, "a"), errors.StaleLease, "drop it")
        lease.token = good
        await worker.plan(lease, "a")
        await worker.plan(lease, "a")
        job = (await callers.person().GetJob(scheduler_pb2.GetJobRequest(job_id=1))).job
        assert job.counts == job_pb2.TaskCounts(submitted=1)


async def test_a_scheduler_that_was_superseded_ends(house):
    with pytest.RaisesGroup(Superseded, flatten_subgroups=True):
        async with house.open() as callers:
            with closing(SqlJournal.open_file(house.settings.state / "journal.sqlite")):
                await fails(callers.person().SubmitJob(submission()), errors.Unreachable, "try again")
                await until(lambda: False, lambda: "the scheduler goes on")
    async with house.open() as callers:
        assert not (await callers.person().ListJobs(scheduler_pb2.ListJobsRequest())).jobs


async def test_a_long_list_of_tasks_arrives_in_pieces_and_takes_effect_as_one(house):
    async with house.open() as callers:
        anna = callers.person()
        request = submission(tasks=specs(*map(str, range(1_234))))
        before = scheduler_pb2.SubmitJobRequest.FromString(request.SerializeToString())
        before.validate_only = True
        would_be = (await anna.SubmitJob(before)).job
        assert (would_be.id, would_be.counts.submitted) == (0, 1_234)
        job = (await anna.SubmitJob(request)).job
        assert (job.id, job.counts.submitted) == (1, 1_234)
        tasks = (await anna.ListTasks(scheduler_pb2.ListTasksRequest(job_id=1, page_token=""))).tasks
        assert [task.label for task in tasks] == [str(number) for number in range(1_000)]
        assert (await anna.SubmitJob(request)).job.id == 1
        request.tasks[700].label = "another"
        await fails(anna.SubmitJob(request), errors.Conflict, "used for another job, 1")
    async with house.open() as callers:
        # Nothing of the others is left.
        assert (await callers.person().GetJob(scheduler_pb2.GetJobRequest(job_id=1))).job.counts.submitted == 1_234
        worker = await callers.worker()
        leases = (await worker.work(room=3)).leases
        assert [lease.spec.label for lease in leases] == ["0", "1", "2"]


async def test_a_long_request_has_the_digest_of_one_piece():
    request = submission(tasks=specs(*(f"{number:0{number % 300}}" for number in range(1_000))))
    head = arrivals.without_tasks(request)
    plans = wire.task_plans(request.tasks)
    assert wire.content(head) + arrivals.content_of_tasks(plans) == wire.content(request)


async def test_a_long_plan_arrives_in_pieces_and_takes_effect_as_one(house):
    async with house.open() as callers:
        anna = callers.person()
        await anna.SubmitJob(submission())
        worker = await callers.worker()
        [lease] = (await worker.work(room=1)).leases
        await worker.plan(lease, *map(str, range(1_234)))
        job = (await anna.GetJob(scheduler_pb2.GetJobRequest(job_id=1))).job
        assert job.counts.submitted == 1_234
