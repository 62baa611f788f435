"""Client and worker know two schedulers: they find the one that leads, and the other when it takes over."""

import asyncio
import time
from contextlib import closing

import sqlalchemy as sa

from dpu_api.v1 import job_pb2
from fakes_programs import Customer, Others, Scheduler, worker_program
from fakes_scheduler import background, until

WAIT_S = 60
TASKS = 30


async def test_client_and_worker_find_the_leader_and_the_one_that_takes_over(tmp_path_factory, postgres):
    folder = tmp_path_factory.mktemp("l")
    others, database = Others(folder), postgres.database()
    first, second = (Scheduler(folder, name, others.address, database) for name in "ab")
    both = f"unix:{first.socket},unix:{second.socket}"
    worker = worker_program(folder, 0, both, others.address)
    async with others.serving(), background(second.run()):
        await _leads(second)
        # The leader is the second address, and the first stands by.
        async with background(first.run(), worker.run()):
            with closing(Customer(folder, both)) as anna:
                job = await asyncio.to_thread(anna.submit, others.ship(), TASKS)
                waiting = asyncio.create_task(asyncio.to_thread(anna.wait, job))
                await until(lambda: others.archive.told, worker.log.read_text, WAIT_S)
                second.end()
                begun = time.monotonic()
                done = await waiting
                print(f"all had ended {time.monotonic() - begun:.1f} s after the leader was killed")
    assert (done.state, done.counts) == (job_pb2.JOB_STATE_FINISHED, job_pb2.TaskCounts(normal=TASKS))
    published = {told[1:4] for told in others.archive.told if told[0] == "publish"}
    assert published == {(job.id, number, 1) for number in range(TASKS)}
    assert worker.starts == 1
    assert set(anna.said) == {"The connection to DPU 'far' is lost: trying again for 20 seconds"}


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
