"""The log service is killed while a worker ships and readers follow: nothing acknowledged is lost or doubled."""

import asyncio
import random
import subprocess
import sys

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import RpcError

from dpu_api.v1.job_pb2 import JOB_STATE_FINISHED, TASK_STATE_SUCCEEDED, TaskRef
from dpu_api.v1.logs_pb2 import CloseJobRequest, CloseTaskRequest, ReadRequest
from dpu_api.v1.logs_pb2_grpc import LogServiceStub
from fakes_hosting import eventually, place
from fakes_logs import request, text

LINES, BATCH, KILLS = 6_000, 20, 4
SERVE = """
import asyncio, os
from dpud.hosting.settings import Environment
from dpud.logs.main import main
asyncio.run(main(Environment(os.environ)))
"""


class Service:
    """The log service as a process of its own."""

    def __init__(self, where, folder):
        self._environment = {
            "DPU_LISTEN": where.address,
            "DPU_TOKENS_FILE": str(where.listening.tokens),
            "DPU_STATE": str(folder),
        }
        self._process = None

    def start(self):
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVE], env=self._environment, stderr=subprocess.DEVNULL
        )

    def kill(self):
        self._process.kill()
        self._process.wait()


async def ship(where, progress):
    """Ship all lines as a worker does: after a break, from the first that was not acknowledged."""
    while progress["acknowledged"] < LINES:
        try:
            async with where.channel("worker's", "") as channel:
                start = progress["acknowledged"]
                batches = [request(first, min(BATCH, LINES - first)) for first in range(start, LINES, BATCH)]
                async for answer in LogServiceStub(channel).Append(iter(batches), wait_for_ready=True):
                    progress["acknowledged"] = answer.acknowledged
        except RpcError:
            progress["broken"] += 1


async def follow(where):
    """Read to the end, resuming by offset after each break."""
    seen, offset = [], 0
    while True:
        try:
            async with where.channel("anna's") as channel:
                asked = ReadRequest(job_id=1, follow=True, offset=offset)
                async for response in LogServiceStub(channel).Read(asked, wait_for_ready=True):
                    if response.WhichOneof("item") == "end":
                        return seen, response.end
                    seen += response.batch.texts
                    offset = response.offset
        except RpcError:
            continue


@pytest.mark.timeout(90)
async def test_every_line_comes_once_and_in_order_through_kills_of_the_service(tmp_path):
    chance = random.Random(7)  # noqa: S311 (moments of a test)
    progress = {"acknowledged": 0, "broken": 0}
    with place() as where:
        service = Service(where, tmp_path)
        service.start()
        try:
            async with asyncio.timeout(80), asyncio.TaskGroup() as group:
                shipping = group.create_task(ship(where, progress))
                readers = [group.create_task(follow(where)) for _ in range(3)]
                for kill in range(KILLS):
                    enough = kill * LINES // (KILLS + 1) + chance.randrange(1, LINES // (KILLS + 1))
                    await eventually(lambda least=enough: progress["acknowledged"] >= least, lambda: progress, 30)
                    await asyncio.to_thread(service.kill)
                    service.start()
                await shipping
                async with where.channel("service's", "") as channel:
                    stub = LogServiceStub(channel)
                    closed = CloseTaskRequest(
                        ref=TaskRef(job_id=1, task=0, attempt=1),
                        project="KIDS",
                        state=TASK_STATE_SUCCEEDED,
                        lines=LINES,
                        patience=Duration(seconds=30),
                    )
                    await stub.CloseTask(closed, wait_for_ready=True)
                    await stub.CloseJob(CloseJobRequest(job_id=1, project="KIDS", state=JOB_STATE_FINISHED))
        finally:
            service.kill()
    assert progress["broken"] > 0
    for reader in readers:
        seen, end = reader.result()
        assert seen == [text(number) for number in range(LINES)]
        assert end.complete
