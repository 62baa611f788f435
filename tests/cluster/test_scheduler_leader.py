"""Client and worker know two schedulers: they find the one that leads, and the other when it takes over."""

import asyncio
import time
from contextlib import closing

import sqlalchemy as sa

from dpu.config import KnownDpu
from dpu.link import Link
from dpu_api.v1 import job_pb2, scheduler_pb2
from fakes_chaos import Others, Scheduler, worker_program
from fakes_house import specs, submission
from fakes_scheduler import background, until
from fakes_worker import PROJECT

WAIT_S = 60
TASKS = 30


def linked(folder, address, said):
    (folder / "anna.token").write_text("anna")
    known = KnownDpu(name="far", address=address, token_file=folder / "anna.token")
    return closing(Link(known, PROJECT, home=folder, say=said.append))


def submitted(link, digest):
    request = submission(tasks=specs(*map(str, range(TASKS))), code_digest=digest)
    return link.ask(lambda services: services.scheduler.SubmitJob, request).job


def ended(link, job):
    """Return a job when it has ended, waited for with calls that a scheduler keeps open."""
    deadline = time.monotonic() + 2 * WAIT_S
    while job.state < job_pb2.JOB_STATE_FINISHED:
        assert time.monotonic() < deadline, job
        request = scheduler_pb2.WaitJobRequest(job_id=job.id, after_revision=job.revision)
        request.timeout.FromSeconds(10)
        job = link.ask(lambda services: services.scheduler.WaitJob, request).job
    return job


async def test_client_and_worker_find_the_leader_and_the_one_that_takes_over(tmp_path_factory, postgres):
    folder = tmp_path_factory.mktemp("l")
    others, database, said = Others(folder), postgres.database(), []
    first, second = (Scheduler(folder, name, others.address, database) for name in "ab")
    both = f"unix:{first.socket},unix:{second.socket}"
    worker = worker_program(folder, 0, both, others.address)
    async with others.serving(), background(second.run()):
        await _leads(second)
        # The leader is the second address, and the first stands by.
        async with background(first.run(), worker.run()):
            with linked(folder, both, said) as link:
                job = await asyncio.to_thread(submitted, link, others.ship())
                waiting = asyncio.create_task(asyncio.to_thread(ended, link, job))
                await until(lambda: others.archive.told, worker.log.read_text, WAIT_S)
                second.kill()
                begun = time.monotonic()
                done = await waiting
                print(f"all had ended {time.monotonic() - begun:.1f} s after the leader was killed")
    assert (done.state, done.counts) == (job_pb2.JOB_STATE_FINISHED, job_pb2.TaskCounts(normal=TASKS))
    published = {told[1:4] for told in others.archive.told if told[0] == "publish"}
    assert published == {(job.id, number, 1) for number in range(TASKS)}
    assert worker.starts == 1
    assert said == ["The connection to DPU 'far' is lost: trying again for 20 seconds"]


async def test_a_scheduler_that_is_started_again_need_not_wait_for_its_own_time_to_end(tmp_path_factory, postgres):
    folder = tmp_path_factory.mktemp("l")
    others, database = Others(folder), postgres.database()
    first, second = (Scheduler(folder, name, others.address, database) for name in "ab")
    async with background(first.run()):
        await _leads(first)
        # Whoever waits for the end of this time waits for longer than this test may take.
        engine = sa.create_engine(database)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE writer SET expires = expires + 3600"))
        first.kill()
        async with background(second.run()):
            await until(lambda: first.starts == 2, first.log.read_text, WAIT_S)
            await _leads(first)
            assert not await second.leads()
        engine.dispose()


async def _leads(scheduler):
    deadline = time.monotonic() + WAIT_S
    while not await scheduler.leads():
        assert time.monotonic() < deadline, scheduler.log.read_text()
        await asyncio.sleep(0.05)
