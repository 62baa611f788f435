"""Jobs run while each service of the last release is replaced by the present one: nothing lost, nothing doubled."""

import asyncio
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

import grpc
import pytest

from dpu_api.v1 import archive_pb2, archive_pb2_grpc, codeship_pb2_grpc, job_pb2, logs_pb2, logs_pb2_grpc
from dpu_api.v1.scheduler_pb2 import GetJobRequest, ListTasksRequest
from dpu_api.v1.scheduler_pb2_grpc import SchedulerServiceStub
from fakes_fleet import PATIENCE_S, SERVICES, sailing, until
from fakes_house import submission
from fakes_release import installed, newest_release, shipped

TASKS = 12
LINES = 5
#: Tasks that must end with a service that was replaced before the next one is.
GOING_ON = 4
#: The commands, as installed scripts call them.
AWE = "import sys; from dpu.prompt import main; sys.exit(main())"
DPU = "import sys; from dpu.shell import main; sys.exit(main())"

pytestmark = pytest.mark.timeout(900)


class Load:
    """Jobs that are submitted one after the other, so that there is always one that runs."""

    def __init__(self, fleet, code, raw):
        self._fleet = fleet
        self._code = code
        self._raw = raw
        self.jobs = []
        self.ended = 0
        self.enough = False

    async def run(self):
        while not self.enough:
            number = await self._tried(self._submit, str(uuid.uuid4()))
            self.jobs.append(number)
            done = 0
            while done < TASKS:
                counts = await self._tried(self._counts, number)
                assert counts.error + counts.aborted == 0, f"job {number}: {counts}"
                self.ended += counts.normal - done
                done = counts.normal
                await asyncio.sleep(0.1)

    async def _tried(self, call, argument):
        """Return what a call returns; while a service is away it is made again, as users' clients do."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await asyncio.to_thread(call, argument)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)

    def _submit(self, request_id):
        tasks = [job_pb2.TaskSpec(label=f"task {number}", inputs=[self._raw]) for number in range(TASKS)]
        with self._fleet.channel("scheduler") as channel:
            request = submission(request_id=request_id, code_digest=self._code, tasks=tasks)
            return SchedulerServiceStub(channel).SubmitJob(request, timeout=PATIENCE_S).job.id

    def _counts(self, number):
        with self._fleet.channel("scheduler") as channel:
            return SchedulerServiceStub(channel).GetJob(GetJobRequest(job_id=number), timeout=PATIENCE_S).job.counts


@pytest.mark.parametrize("order", [SERVICES, SERVICES[::-1]], ids=["services_first", "workers_first"])
async def test_each_service_is_replaced_under_running_jobs_and_nothing_is_lost(order):
    folder = Path(tempfile.mkdtemp(prefix="dpu"))
    try:
        old = await asyncio.to_thread(installed, newest_release(), folder)
        async with sailing(folder, old) as fleet:
            simulate = ("-m", "dpu_recipes.simulate", "night", "--chips", "1", "--scale", "0.1", "--biases", "2")
            await run(fleet, sys.executable, *simulate)
            # The present client with the services of then.
            await run(fleet, sys.executable, "-c", AWE, "ingest", "night/raw")
            await upgraded_under_load(fleet, order)
            # The client of then with the present services.
            await run(fleet, old, "-c", DPU, "run", "ReadNoise", "-i", "WFI", "-d", "2000-04-28", "--wait")
    finally:
        shutil.rmtree(folder)


async def run(fleet, *command):
    """Run a program as a user does, in the fleet's folder."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=fleet.folder,
        env=os.environ | fleet.configuration(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def upgraded_under_load(fleet, order):
    with fleet.channel("codeship") as channel:
        code = shipped(codeship_pb2_grpc.CodeServiceStub(channel), fleet.folder / "source")
    load = Load(fleet, code, raw_bias(fleet))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(load.run())
        await goes_on(load, "the release alone")
        for service in order:
            await fleet.stop(service)
            await fleet.start(service)
            await goes_on(load, f"{service} was replaced")
        load.enough = True
        await running
    for number in load.jobs:
        await until(lambda number=number: asyncio.to_thread(is_finished, fleet, number), f"the end of job {number}")
        nothing_is_lost(fleet, number)
    print(f"{len(load.jobs)} jobs of {TASKS} tasks while {len(order)} services were replaced: 0 lost, 0 doubled")


async def goes_on(load, after):
    """Wait until tasks have ended since now."""
    enough = load.ended + GOING_ON

    async def ended():
        return load.ended >= enough

    await until(ended, f"tasks to end after {after}", 2 * PATIENCE_S)


def raw_bias(fleet):
    """Return the identifier of a frame to work on."""
    with fleet.channel("archive") as channel:
        request = archive_pb2.ListFramesRequest(frame_class="RawBiasFrame")
        return archive_pb2_grpc.ArchiveServiceStub(channel).ListFrames(request).frames[0].id


def is_finished(fleet, number):
    with fleet.channel("scheduler") as channel:
        job = SchedulerServiceStub(channel).GetJob(GetJobRequest(job_id=number)).job
    return job.state == job_pb2.JOB_STATE_FINISHED


def nothing_is_lost(fleet, number):
    """Every task has ended normally, made one product, and printed every line once in the attempt that counts."""
    with fleet.channel("scheduler") as channel:
        tasks = SchedulerServiceStub(channel).ListTasks(ListTasksRequest(job_id=number)).tasks
    assert [task.state for task in tasks] == [job_pb2.TASK_STATE_SUCCEEDED] * TASKS
    with fleet.channel("archive", "worker") as channel:
        request = archive_pb2.ListFramesRequest(frame_class="BiasFrame", job_id=number, only_job=True)
        frames = archive_pb2_grpc.ArchiveServiceStub(channel).ListFrames(request).frames
    made = Counter(frame.values.entries["LABEL"].string_value for frame in frames)
    assert made == {f"task {each}": 1 for each in range(TASKS)}
    counts = {(task.ref.task, task.ref.attempt): task.label for task in tasks}
    lines, end = read_log(fleet, number)
    assert end.complete
    assert {key: lines[key] for key in counts} == {
        key: [f"{label} {each}" for each in range(LINES)] for key, label in counts.items()
    }


def read_log(fleet, number):
    """Return the lines of the attempts of a job that its tasks printed, and its end."""
    lines = {}
    with fleet.channel("logs") as channel:
        for answer in logs_pb2_grpc.LogServiceStub(channel).Read(logs_pb2.ReadRequest(job_id=number)):
            batch = answer.batch
            texts = [text for text in batch.texts if text.startswith("task ")]
            lines.setdefault((batch.ref.task, batch.ref.attempt), []).extend(texts)
            if answer.WhichOneof("item") == "end":
                return lines, answer.end
    raise AssertionError(f"the log of job {number} has no end")
