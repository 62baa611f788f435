import asyncio
from itertools import chain

from dpu_api.v1.job_pb2 import JOB_STATE_FINISHED, TASK_STATE_SUCCEEDED
from dpud.logs.aggregator import Aggregator
from dpud.logs.ledger import SECOND_US, CloseJob, CloseTask, TakeLines
from dpud.logs.store import MemoryLogStore
from fakes_logs import Clock
from fakes_scheduler import background

#: Longer than any test: what is put off so long happens only when something else makes it happen.
LINGER_S = 600.0
LINES = TakeLines(0, 1, 0, 3, lambda _start, _stop: b"three lines", "anna", "ccd50")
CLOSED = [
    (1, "KIDS", CloseTask(0, 1, TASK_STATE_SUCCEEDED, 3, 30 * SECOND_US)),
    (1, "KIDS", CloseJob(JOB_STATE_FINISHED)),
]


class NotingStore(MemoryLogStore):
    """Notes which records each commit brought."""

    def __init__(self):
        super().__init__(lambda: 0.0)
        self.commits = []

    async def append(self, groups):
        self.commits.append([type(record).__name__ for record in chain.from_iterable(groups.values())])
        await super().append(groups)


async def test_closings_that_have_time_are_kept_by_the_commit_of_the_last_lines():
    store = NotingStore()
    aggregator = Aggregator(store, Clock())
    async with background(aggregator.run()):
        closing = asyncio.create_task(aggregator.order_all(CLOSED, LINGER_S))
        await asyncio.sleep(0)
        assert await aggregator.take([(1, "KIDS", LINES)]) == [3]
        await closing
    assert store.commits == [["Opened", "TaskClosed", "JobClosed", "Owned", "TaskLabelled", "Lines", "TaskEnded"]]


async def test_who_wants_to_see_a_job_does_not_wait_for_closings_that_have_time():
    aggregator = Aggregator(NotingStore(), Clock())
    async with background(aggregator.run()):
        await aggregator.take([(1, "KIDS", LINES)])
        closing = asyncio.create_task(aggregator.order_all(CLOSED, LINGER_S))
        await asyncio.sleep(0)
        await aggregator.caught_up(1)
        async with aggregator.holding(1) as job:
            assert job.view.ended == JOB_STATE_FINISHED
        await closing


async def test_closings_that_have_time_are_kept_when_it_is_up():
    store = NotingStore()
    aggregator = Aggregator(store, Clock())
    async with background(aggregator.run()):
        await aggregator.order_all(CLOSED, 0.001)
    assert store.commits == [["Opened", "TaskClosed", "JobClosed"]]
