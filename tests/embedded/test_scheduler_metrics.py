"""A scheduler with jobs, workers and a queue shows them to Prometheus."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from dpu_api.v1 import job_pb2, scheduler_pb2
from fakes_house import House, ending, specs, submission


@pytest.fixture
async def callers(tmp_path):
    async with House(tmp_path).open() as callers:
        yield callers


def shown(name, **labels):
    return REGISTRY.get_sample_value(name, labels)


async def test_the_queue_is_shown_by_state_user_and_sequence(callers):
    worker = await callers.worker()
    await callers.person().SubmitJob(submission(tasks=specs("ccd50", "ccd51", "ccd52")))
    await worker.work(room=1)
    assert [shown("dpu_tasks", state=state) for state in ("queued", "running", "delayed")] == [2, 1, 0]
    assert shown("dpu_queue_tasks", user="anna", sequence="Bias") == 2
    assert shown("dpu_queue_oldest_seconds") > 0
    assert shown("dpu_jobs_open") == 1
    assert shown("dpu_user_share_ratio", user="anna") == 1


async def test_workers_and_their_slots_are_shown_by_state(callers):
    worker = await callers.worker(slots=3)
    await callers.worker("w2", slots=4)
    await callers.person("ruth").CordonWorker(scheduler_pb2.CordonWorkerRequest(name="w2", cordoned=True))
    await callers.person().SubmitJob(submission(tasks=specs("ccd50")))
    await worker.work(room=1)
    assert [shown("dpu_workers", state=state) for state in ("ready", "cordoned", "silent")] == [1, 1, 0]
    assert [shown("dpu_worker_slots", state=state) for state in ("busy", "idle", "cordoned")] == [1, 2, 4]


async def test_what_came_to_an_end_is_counted(callers):
    worker = await callers.worker()
    await callers.person().SubmitJob(submission(tasks=specs("ccd50", "ccd51")))
    first, second = (await worker.work(room=2)).leases
    failure = job_pb2.Failure(category=job_pb2.FAILURE_CATEGORY_CODE, message="no")
    await worker.work(ended=[ending(first), ending(second, failure)])
    assert shown("dpu_task_attempts_total", outcome="succeeded", category="") == 1
    assert shown("dpu_task_attempts_total", outcome="failed", category="code") == 1
    assert shown("dpu_task_run_seconds_sum", sequence="Bias") == 2.0
    assert shown("dpu_task_queue_wait_seconds_count") == 2
    assert shown("dpu_journal_append_seconds_count") > 0
    assert shown("dpu_disk_free_bytes", service="scheduler") > 0


async def test_the_end_of_a_lease_that_is_anothers_is_counted_as_stale(callers):
    worker = await callers.worker()
    await callers.person().SubmitJob(submission(tasks=specs("ccd50")))
    (lease,) = (await worker.work(room=1)).leases
    lease.token = "not mine"  # noqa: S105 (a token that no lease has)
    await worker.work(ended=[ending(lease)])
    assert shown("dpu_stale_report_rejected_total") == 1


async def test_no_job_and_no_task_is_a_label(callers):
    worker = await callers.worker()
    await callers.person().SubmitJob(submission(tasks=specs("ccd50")))
    await worker.work(room=1)
    labels = {label for family in REGISTRY.collect() for sample in family.samples for label in sample.labels}
    assert labels.isdisjoint({"job", "job_id", "task", "attempt", "session", "token"})
    # From a thread, as a scrape comes, all is there as well.
    assert await asyncio.to_thread(shown, "dpu_tasks", state="running") == 1
