"""Real scheduler processes are killed, stopped and cut off while 2,000 tasks run: nothing lost, nothing twice.

Workers, archive and logs are by script, in this process, behind a line that fails too.
"""

import asyncio
import os
import random
import signal
import sys
import time
from collections import defaultdict
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import grpc
import psutil
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dpu.channel import open_async_channel
from dpu.errors import UnknownSession
from dpu.status import from_rpc
from dpu_api.v1 import archive_pb2_grpc, dispatch_pb2, dispatch_pb2_grpc, job_pb2, logs_pb2_grpc, scheduler_pb2_grpc
from dpud.hosting.caller import token_row
from dpud.hosting.server import listening
from dpud.hosting.settings import Address, Listening
from fakes_house import ending, specs, submission, until_ended
from fakes_network import proxied
from fakes_postgres import programs, running
from fakes_scheduler import RecordingArchive, RecordingLogs, background, until

JOBS, TASKS = 4, 500
RUN_S = 0.1
DEADLINE_S = 240
SERVING = health_pb2.HealthCheckResponse.SERVING
ROLES = {"anna": "user", "worker": "worker", "service": "service"}


class Scheduler:
    """A scheduler process that is started again whenever it ends."""

    def __init__(self, folder, name, others, database=None):
        self.socket = str(folder / name)
        self.log = folder / f"{name}.log"
        self.process = None
        self.starts = 0
        self._settings = {
            "DPU_NAME": "chaos",
            "DPU_STATE": str(folder / f"state-{name}"),
            "DPU_LISTEN": f"unix:{self.socket}",
            "DPU_TOKENS_FILE": str(folder / "tokens.toml"),
            "DPU_TOKEN_FILE": str(folder / "own.token"),
            **dict.fromkeys(("DPU_LOGS", "DPU_ARCHIVE", "DPU_CODE"), others),
            **({"DPU_DATABASE": database} if database else {}),
        }

    async def run(self):
        """Keep it running until cancelled."""
        with self.log.open("ab") as log:
            while True:
                self.starts += 1
                self.process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "dpud", "scheduler"),
                    env=os.environ | self._settings,
                    stderr=log,
                    stdout=log,
                )
                try:
                    await self.process.wait()
                finally:
                    with suppress(ProcessLookupError):
                        self.process.send_signal(signal.SIGCONT)
                        self.process.kill()
                        await self.process.wait()

    def send(self, number):
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def leads(self):
        async with open_async_channel(f"unix:{self.socket}", "") as channel:
            request = health_pb2.HealthCheckRequest(service="dpu_api.v1.DispatchService")
            try:
                return (await health_pb2_grpc.HealthStub(channel).Check(request, timeout=0.5)).status == SERVING
            except grpc.RpcError:
                return False


class Fleet:
    """What the workers of a trial share."""

    def __init__(self, address):
        self.address = address
        self.acknowledged = 0
        self.deaths = 0
        self.dice = random.Random(17)  # noqa: S311 (a trial that can be repeated)


class Worker:
    """A worker by script: its tasks take RUN_S, and now and then it dies with all that it holds."""

    def __init__(self, fleet, name):
        self._fleet = fleet
        self._name = name
        self._ended = {}
        self._session = ""

    async def run(self):
        async with open_async_channel(self._fleet.address, "worker") as channel:
            stub = dispatch_pb2_grpc.DispatchServiceStub(channel)
            while True:
                try:
                    await self._call(stub)
                except grpc.RpcError as error:
                    if isinstance(from_rpc(error), UnknownSession):
                        self._session = ""
                    await asyncio.sleep(0.05)

    async def _call(self, stub):
        if not self._session:
            request = dispatch_pb2.RegisterWorkerRequest(name=self._name, slots=8, memory_mib=8_000)
            self._session = (await stub.RegisterWorker(request, timeout=5)).session
        request = dispatch_pb2.WorkRequest(
            session=self._session,
            ended=self._ended.values(),
            room=8 - len(self._ended),
            memory_mib=8_000,
            wait=Duration(seconds=1),
        )
        answer = await stub.Work(request, timeout=5)
        for ref in (*answer.acknowledged, *answer.stale):
            self._fleet.acknowledged += self._ended.pop(_key(ref), None) is not None
        self._ended |= {_key(lease.ref): ending(lease) for lease in answer.leases}
        await asyncio.sleep(RUN_S)
        if self._fleet.dice.random() < 0.02:
            self._fleet.deaths += 1
            self._ended, self._session = {}, ""


def _key(ref):
    return ref.job_id, ref.task, ref.attempt


class Trial:
    """Everything of one run."""

    def __init__(self, folder, line, schedulers):
        self.line = line
        self.schedulers = schedulers
        self.fleet = Fleet(f"unix:{line.address}")
        self.archive = RecordingArchive()
        self.logs = RecordingLogs()
        self.recoveries = defaultdict(list)
        self.folder = folder

    async def route(self):
        """Lead the line to whoever leads, as clients that check health do."""
        while True:
            for scheduler in self.schedulers:
                if self.line.target != scheduler.socket and await scheduler.leads():
                    self.line.target = scheduler.socket
                    self.line.cut()
                    self.line.mend()
            await asyncio.sleep(0.1)

    def leader(self):
        return next(scheduler for scheduler in self.schedulers if scheduler.socket == self.line.target)

    async def recovered(self, fault, since=None):
        """Wait until work goes on, and note how long that took from the fault."""
        begun, before = since or time.monotonic(), self.fleet.acknowledged
        assert before < 0.95 * JOBS * TASKS, f"{fault} came when nearly all was done"
        while self.fleet.acknowledged < before + 8:
            assert time.monotonic() < begun + 60, f"no work for 60 s after {fault}: {self.tails()}"
            await asyncio.sleep(0.01)
        self.recoveries[fault].append(time.monotonic() - begun)

    def tails(self):
        return {scheduler.log.name: scheduler.log.read_text()[-2_000:] for scheduler in self.schedulers}

    def report(self, jobs):
        published, twice = self.published()
        counts = {
            "tasks": JOBS * TASKS,
            "succeeded": sum(job.counts.normal for job in jobs),
            "lost": JOBS * TASKS - len(published),
            "published_twice": len(twice),
            "worker_deaths": self.fleet.deaths,
            "scheduler_starts": sum(scheduler.starts for scheduler in self.schedulers),
        }
        print(counts, {fault: f"{max(times):.1f} s at most" for fault, times in self.recoveries.items()})
        return counts

    def published(self):
        """Return the attempts that count by task, and the tasks of which more than one does or that were dropped."""
        attempts = defaultdict(set)
        for what, job, task, attempt, *_ in self.archive.told:
            if what == "publish":
                attempts[job, task].add(attempt)
        dropped = {tuple(told[1:4]) for told in self.archive.told if told[0] == "discard"}
        twice = {
            key
            for key, numbers in attempts.items()
            if len(numbers) > 1 or any((*key, number) in dropped for number in numbers)
        }
        return attempts, twice


async def _others(stack, trial, address):
    """Serve archive and logs."""
    services = [
        (
            "dpu_api.v1.ArchiveService",
            lambda server: archive_pb2_grpc.add_ArchiveServiceServicer_to_server(trial.archive, server),
        ),
        ("dpu_api.v1.LogService", lambda server: logs_pb2_grpc.add_LogServiceServicer_to_server(trial.logs, server)),
    ]
    place = Listening(listen=Address.parse(address), tokens=trial.folder / "tokens.toml", metrics=None)
    await stack.enter_async_context(listening(place, services))


async def _run(folder, faults, number, database=None):
    """Run all tasks through so many schedulers while `faults` happen; check, and return what was counted."""
    rows = [token_row(name, name, ["*"], [role]) for name, role in ROLES.items()]
    (folder / "tokens.toml").write_text("\n".join(rows))
    (folder / "own.token").write_text("service")
    others = f"unix:{folder / 'others'}"
    schedulers = [Scheduler(folder, name, others, database) for name in "ab"[:number]]
    with proxied(schedulers[0].socket, str(folder / "line")) as line:
        trial = Trial(folder, line, schedulers)
        workers = [Worker(trial.fleet, f"w{number}") for number in range(3)]
        async with AsyncExitStack() as stack:
            await _others(stack, trial, others)
            channel = await stack.enter_async_context(open_async_channel(trial.fleet.address, "anna", "kids"))
            anna = scheduler_pb2_grpc.SchedulerServiceStub(channel)
            runs = [scheduler.run() for scheduler in schedulers]
            async with background(*runs, trial.route()):
                await _submit(anna)
                async with background(*(worker.run() for worker in workers)):
                    await faults(trial)
                    jobs = [await _ended(anna, job) for job in range(1, JOBS + 1)]
    counts = trial.report(jobs)
    assert [job.state for job in jobs] == [job_pb2.JOB_STATE_FINISHED] * JOBS
    assert (counts["succeeded"], counts["lost"], counts["published_twice"]) == (JOBS * TASKS, 0, 0)
    closed = {told[1] for told in trial.logs.told if told[0] == "close_job"}
    assert closed == set(range(1, JOBS + 1))


async def _submit(anna):
    requests = [submission(tasks=specs(*map(str, range(TASKS)))) for _ in range(JOBS)]
    for request in requests:
        await _patiently(lambda request=request: anna.SubmitJob(request, timeout=10))


async def _ended(anna, job):
    return await _patiently(lambda: until_ended(anna, job))


async def _patiently(call):
    """Repeat a call until it is answered, as the client does."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return await call()
        except (grpc.RpcError, AssertionError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


@pytest.fixture
def folder(tmp_path_factory):
    return Path(tmp_path_factory.mktemp("c"))


async def _kill(trial):
    trial.leader().send(signal.SIGKILL)
    await trial.recovered("kill -9 of the scheduler")


async def _cut(trial):
    trial.line.cut()
    await asyncio.sleep(0.5)
    trial.line.mend()
    await trial.recovered("a network that was cut for 0.5 s")


async def _freeze(trial):
    trial.line.passing.clear()
    await asyncio.sleep(1)
    trial.line.passing.set()
    await trial.recovered("a network that held everything back for 1 s")


@pytest.mark.timeout(DEADLINE_S + 60)
async def test_nothing_is_lost_or_doubled_on_sqlite(folder):
    async def faults(trial):
        await trial.recovered("the start")
        for fault in (_kill, _cut, _kill, _freeze, _kill):
            await fault(trial)

    await _run(folder, faults, 1)


@pytest.fixture
def server():
    """Return a database server of this test's own, with its syncs."""
    if (found := programs()) is None:
        pytest.skip("this machine has no PostgreSQL: no initdb on PATH or in /usr/lib/postgresql")
    with running(found, "fsync=on") as postgres:
        yield postgres


@pytest.mark.timeout(DEADLINE_S + 60)
async def test_nothing_is_lost_or_doubled_on_postgresql_with_a_standby(folder, server):
    async def faults(trial):
        await trial.recovered("the start")
        for _ in range(20):
            _end_backends(server)
            await trial.recovered("pg_terminate_backend")
        await asyncio.to_thread(_restart, server)
        await trial.recovered("a restart of PostgreSQL")
        stopped, starts = trial.leader(), trial.leader().starts
        stopped.send(signal.SIGSTOP)
        begun = time.monotonic()
        await until(lambda: trial.leader() is not stopped, trial.tails, 30)
        await trial.recovered("SIGSTOP of the leader", begun)
        stopped.send(signal.SIGCONT)
        # It cannot append any more, and ends.
        await until(lambda: stopped.starts > starts, trial.tails, 30)
        await _cut(trial)
        await _kill(trial)

    await _run(folder, faults, 2, server.database())


def _end_backends(server):
    for backend in psutil.Process(server._process.pid).children():
        with suppress(psutil.NoSuchProcess):
            if "test_" in " ".join(backend.cmdline()):
                backend.send_signal(signal.SIGTERM)


def _restart(server):
    server.stop(signal.SIGQUIT)
    server.start()
