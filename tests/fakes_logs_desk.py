"""Everybody who talks to a log service, and a real one in this process."""

import asyncio
from contextlib import asynccontextmanager

from google.protobuf.duration_pb2 import Duration
from grpc import aio

from dpu_api.v1.job_pb2 import JOB_STATE_FINISHED, TASK_STATE_SUCCEEDED, TaskRef
from dpu_api.v1.logs_pb2 import AppendResponse, CloseJobRequest, CloseTaskRequest, ReadRequest
from dpu_api.v1.logs_pb2_grpc import LogServiceStub
from dpud.logs.aggregator import Aggregator
from dpud.logs.service import NAME, LogServicer
from dpud.logs.store_files import FileLogStore
from fakes_hosting import eventually, served
from fakes_logs import Clock


class Desk:
    """Everybody who talks to one log service."""

    def __init__(self, channels, aggregator, clock):
        stubs = map(LogServiceStub, channels)
        self.user, self.colleague, self.stranger, self.operator, self.worker, self.scheduler = stubs
        self.aggregator = aggregator
        self.clock = clock

    async def append(self, *requests):
        """Send batches down one stream; return what was acknowledged."""
        call = self.worker.Append()
        acknowledged = []
        for each in requests:
            await call.write(each)
            answer = await call.read()
            assert isinstance(answer, AppendResponse)
            acknowledged.append(answer.acknowledged)
        await call.done_writing()
        assert await call.read() is aio.EOF
        return acknowledged

    async def close_task(self, lines, *, job=1, task=0, attempt=1, patience=30, state=TASK_STATE_SUCCEEDED):
        ref = TaskRef(job_id=job, task=task, attempt=attempt)
        await self.scheduler.CloseTask(
            CloseTaskRequest(ref=ref, project="KIDS", state=state, lines=lines, patience=Duration(seconds=patience))
        )

    async def close_job(self, job=1, state=JOB_STATE_FINISHED):
        await self.scheduler.CloseJob(CloseJobRequest(job_id=job, project="KIDS", state=state))

    async def read(self, job=1, **which):
        return [response async for response in self.user.Read(ReadRequest(job_id=job, **which))]

    async def pass_time(self, seconds):
        """Let time go by, and wake the aggregator as its timer would."""
        self.clock.forward(seconds)
        self.aggregator._awake.set()


@asynccontextmanager
async def desk(folder, clock=None, **options):
    """Start the service over a folder, and stop it at the end of the block."""
    clock = clock or Clock()
    store = FileLogStore(folder)
    aggregator = Aggregator(store, clock, **options)
    running = asyncio.create_task(aggregator.run())
    try:
        async with (
            served([(NAME, LogServicer(aggregator).add_to)]) as where,
            where.channel("anna's") as user,
            where.channel("carl's") as colleague,
            where.channel("bert's", "VST") as stranger,
            where.channel("olga's") as operator,
            where.channel("worker's", "") as worker,
            where.channel("service's", "") as scheduler,
        ):
            yield Desk([user, colleague, stranger, operator, worker, scheduler], aggregator, clock)
    finally:
        running.cancel()
        store.close()


class Follower:
    """A reader in the background, that notes what it saw."""

    def __init__(self, stub, **which):
        self.seen = []
        self.call = stub.Read(ReadRequest(follow=True, **which))
        self.task = asyncio.create_task(self._read())

    async def _read(self):
        async for response in self.call:
            self.seen.append(response)

    async def has(self, condition):
        await eventually(lambda: condition(self.seen), lambda: self.seen)

    async def ended(self):
        async with asyncio.timeout(5):
            await self.task
        return self.seen[-1].end

    async def leave(self):
        self.call.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
