"""A whole DPU of real processes that fails on purpose: schedulers, workers real and by script, a line between them.

Archive, logs and code are in this process; they remember what they were told.
"""

import asyncio
import os
import random
import signal
import sys
import time
from collections import defaultdict
from contextlib import asynccontextmanager, suppress

import grpc
import psutil
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc

import fakes_worker
from dpu.channel import open_async_channel
from dpu.config import KnownDpu
from dpu.errors import DpuError, UnknownSession, Unreachable
from dpu.link import Link
from dpu.status import from_rpc
from dpu_api.v1 import (
    archive_pb2_grpc,
    codeship_pb2_grpc,
    dispatch_pb2,
    dispatch_pb2_grpc,
    job_pb2,
    logs_pb2_grpc,
    scheduler_pb2,
    scheduler_pb2_grpc,
)
from dpud.hosting.children import send_signal
from dpud.hosting.server import listening
from dpud.hosting.settings import Address, Listening
from dpud.hosting.tokens import token_row
from fakes_house import ending, specs, submission, until_ended
from fakes_network import proxied
from fakes_scheduler import RecordingArchive, RecordingLogs, background, until

JOBS, TASKS = 4, 500
#: What a real worker's task takes, and a round of a scripted one.
TASK_S, ROUND_S = 0.2, 0.5
SLOTS = 8
#: On a machine that is busy with other things; nothing here is a bar.
DEADLINE_S = 300
#: Nothing that fails keeps work from going on for longer.
RECOVERY_S = 120
SERVING = health_pb2.HealthCheckResponse.SERVING
ROLES = {"anna": "user", "ruth": "operator", "worker": "worker", "service": "service"}

RECIPES = f"""
from datetime import UTC, date, datetime

def Bias(options, archive, scratch, spec):
    print("at", spec.label)
    time.sleep(600 if spec.label == "long" else {TASK_S})
    night, begun = date(2000, 4, 28), datetime(2000, 4, 29, tzinfo=UTC)
    archive.save(Frame(frame_class="BiasFrame", instrument="WFI", chip="ccd50", night=night, date_obs=begun))
"""


class Archive(fakes_worker.Archive, RecordingArchive):
    """Takes products of workers, and what the outbox says of them."""

    def __init__(self):
        fakes_worker.Archive.__init__(self)
        RecordingArchive.__init__(self)


class Logs(fakes_worker.Logs, RecordingLogs):
    """Takes lines of workers, and what the outbox says of them."""

    def __init__(self):
        fakes_worker.Logs.__init__(self)
        RecordingLogs.__init__(self)


class Others:
    """Archive, logs and code on one socket, and who is let in by all."""

    def __init__(self, folder):
        self.address = f"unix:{folder / 'others'}"
        self.archive, self.logs, self.code = Archive(), Logs(), fakes_worker.Code()
        self._tokens = folder / "tokens.toml"
        self._tokens.write_text("\n".join(token_row(name, name, ["*"], [role]) for name, role in ROLES.items()))
        for service, token in (("scheduler", "service"), ("worker", "worker")):
            (folder / f"{service}.token").write_text(token)

    def serving(self):
        """Serve until the block ends."""
        servicers = (
            ("Archive", archive_pb2_grpc, self.archive),
            ("Log", logs_pb2_grpc, self.logs),
            ("Code", codeship_pb2_grpc, self.code),
        )
        services = [
            (f"dpu_api.v1.{name}Service", _adding(getattr(module, f"add_{name}ServiceServicer_to_server"), servicer))
            for name, module, servicer in servicers
        ]
        return listening(Listening(listen=Address.parse(self.address), tokens=self._tokens, metrics=None), services)

    def ship(self):
        """Take the recipes; return their digest."""
        return self.code.put(fakes_worker.tree_of(RECIPES))


def _adding(add, servicer):
    return lambda server: add(servicer, server)


class Program:
    """A `dpud SERVICE` that is started again whenever it ends."""

    def __init__(self, folder, name, service, settings):
        self.name = name
        self.log = folder / f"{name}.log"
        self.starts = 0
        self._over = False
        self._service = service
        self._process = None
        self._settings = {
            "DPU_STATE": str(folder / f"state-{name}"),
            "DPU_TOKEN_FILE": str(folder / f"{service}.token"),
            **settings,
        }

    async def run(self):
        """Keep it running until cancelled."""
        with self.log.open("ab") as log:
            while not self._over:
                self.starts += 1
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "dpud", self._service),
                    env=os.environ | self._settings,
                    stderr=log,
                    stdout=log,
                )
                try:
                    await self._process.wait()
                finally:
                    self.send(signal.SIGCONT)
                    self.send(signal.SIGKILL)
                    await self._process.wait()

    def send(self, number):
        """Send a signal to the process and all that it has started."""
        if self._process is not None and self._process.returncode is None:
            send_to_all(self._process.pid, number)

    def end(self):
        """Kill it, and do not start it again."""
        self._over = True
        self.kill()

    def kill(self):
        """Send SIGKILL to the process alone, as the kernel does that is out of memory."""
        send_signal(self._process, signal.SIGKILL)


def send_to_all(pid, number):
    """Send a signal to a process and all that it has started."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                each.send_signal(number)


class Scheduler(Program):
    """A scheduler process."""

    def __init__(self, folder, name, others, database=None):
        self.socket = str(folder / name)
        settings = {
            "DPU_NAME": "chaos",
            "DPU_LISTEN": f"unix:{self.socket}",
            "DPU_TOKENS_FILE": str(folder / "tokens.toml"),
            **dict.fromkeys(("DPU_LOGS", "DPU_ARCHIVE", "DPU_CODE"), others),
            **({"DPU_DATABASE": database} if database else {}),
        }
        super().__init__(folder, name, "scheduler", settings)

    async def leads(self):
        async with open_async_channel(f"unix:{self.socket}", "") as channel:
            request = health_pb2.HealthCheckRequest(service="dpu_api.v1.DispatchService")
            try:
                return (await health_pb2_grpc.HealthStub(channel).Check(request, timeout=0.5)).status == SERVING
            except grpc.RpcError:
                return False


class Customer:
    """A user's own client, which knows several addresses."""

    def __init__(self, folder, address):
        (folder / "anna.token").write_text("anna")
        known = KnownDpu(name="far", address=address, token_file=folder / "anna.token")
        #: What the client said to its user.
        self.said = []
        self._link = Link(known, fakes_worker.PROJECT, home=folder, say=self.said.append)

    def submit(self, digest, tasks):
        """Return the job that was taken."""
        request = submission(tasks=specs(*map(str, range(tasks))), code_digest=digest)
        return self._link.ask(lambda services: services.scheduler.SubmitJob, request).job

    def wait(self, job):
        """Return a job when it has ended, waited for with calls that a scheduler keeps open."""
        deadline = time.monotonic() + DEADLINE_S
        while job.state < job_pb2.JOB_STATE_FINISHED:
            assert time.monotonic() < deadline, job
            request = scheduler_pb2.WaitJobRequest(job_id=job.id, after_revision=job.revision)
            request.timeout.FromSeconds(10)
            # A machine that is busy may take longer to bring up a leader than a client is patient.
            with suppress(Unreachable):
                job = self._link.ask(lambda services: services.scheduler.WaitJob, request).job
        return job

    def close(self):
        self._link.close()


def worker_program(folder, number, line, others, **more):
    """Return a real worker with a folder and uids of its own, and `more` settings."""
    settings = {
        "DPU_SCHEDULER": line,
        **dict.fromkeys(("DPU_LOGS", "DPU_ARCHIVE", "DPU_CODE"), others),
        "DPU_WORKER_NAME": f"real-{number}",
        "DPU_WORKER_SLOTS": "2",
        "DPU_WORKER_MEMORY_MIB": "4096",
        "DPU_WORKER_UIDS": f"{57_000 + 100 * number}-{57_099 + 100 * number}",
        **more,
    }
    return Program(folder, f"real-{number}", "worker", settings)


class Fleet:
    """What the scripted workers of a trial share."""

    def __init__(self, address, deaths):
        self.address = address
        self.deaths = 0
        self.told = set()
        self.awake = asyncio.Event()
        self.awake.set()
        self._share = deaths
        self._dice = random.Random(17)  # noqa: S311 (a trial that can be repeated)

    def dies(self):
        died = self._dice.random() < self._share
        self.deaths += died
        return died


class ScriptedWorker:
    """A worker whose tasks end with its round, and which now and then dies with all that it holds."""

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
            request = dispatch_pb2.RegisterWorkerRequest(name=self._name, slots=SLOTS, memory_mib=8_000)
            self._session = (await stub.RegisterWorker(request, timeout=5)).session
        request = dispatch_pb2.WorkRequest(
            session=self._session,
            ended=self._ended.values(),
            room=SLOTS - len(self._ended),
            memory_mib=8_000,
            wait=Duration(seconds=1),
        )
        self._fleet.told |= self._ended.keys()
        answer = await stub.Work(request, timeout=5)
        for ref in (*answer.acknowledged, *answer.stale):
            self._ended.pop(_key(ref), None)
        self._ended |= {_key(lease.ref): ending(lease) for lease in answer.leases}
        await asyncio.sleep(ROUND_S)
        await self._fleet.awake.wait()
        if self._fleet.dies():
            self._ended, self._session = {}, ""


def _key(ref):
    return ref.job_id, ref.task, ref.attempt


class Trial:
    """Everything of one run."""

    def __init__(self, folder, others, lines, schedulers, deaths):
        self.others = others
        self.archive, self.logs = others.archive, others.logs
        #: Between the leader and all others, and between the last worker and that.
        self.line, self.partition = lines
        self.schedulers = schedulers
        self.fleet = Fleet(f"unix:{self.line.address}", deaths)
        ways = (self.line, self.line, self.partition)
        self.workers = [
            worker_program(folder, number, f"unix:{way.address}", others.address) for number, way in enumerate(ways)
        ]
        self.recoveries = defaultdict(list)
        self.jobs = []

    # What happens

    def leader(self):
        return next(scheduler for scheduler in self.schedulers if scheduler.socket == self.line.target)

    async def route(self):
        """Lead the line to whoever leads, as clients that check health do."""
        while True:
            for scheduler in self.schedulers:
                if self.line.target != scheduler.socket and await scheduler.leads():
                    self.line.target = scheduler.socket
                    self.line.cut()
                    self.line.mend()
            await asyncio.sleep(0.1)

    async def recovered(self, fault, since=None, counted=None):
        """Wait until work goes on, and note how long that took from the fault."""
        counted = counted or (lambda: len(self.archive.told))
        begun, before = since or time.monotonic(), counted()
        assert len(self.archive.told) < 0.95 * JOBS * TASKS, f"{fault} came when nearly all was done"
        await until(lambda: counted() >= before + 8, lambda: f"work goes on after {fault}: {self.tails()}", RECOVERY_S)
        self.recoveries[fault].append(time.monotonic() - begun)

    def tails(self):
        return {program.name: program.log.read_text()[-2_000:] for program in (*self.schedulers, *self.workers)}

    @asynccontextmanager
    async def calling(self, role="anna"):
        """Give the scheduler as somebody sees it, over the line."""
        async with open_async_channel(self.fleet.address, role, fakes_worker.PROJECT) as channel:
            yield scheduler_pb2_grpc.SchedulerServiceStub(channel)

    async def submit(self):
        """Submit one job; return its number."""
        request = submission(tasks=specs(*map(str, range(TASKS))), code_digest=self.others.ship())
        async with self.calling() as anna:
            answer = await patiently(lambda: anna.SubmitJob(request, timeout=10))
        self.jobs.append(answer.job.id)

    async def seen(self, worker):
        """Return how many leases a worker holds, and when it was last heard of; nothing where it is not known."""
        async with self.calling("ruth") as ruth:
            listed = await patiently(lambda: ruth.ListWorkers(scheduler_pb2.ListWorkersRequest(), timeout=5))
        return next(
            ((each.leases, each.seen.ToNanoseconds() / 1e9) for each in listed.workers if each.name == worker), None
        )

    # What came of it

    async def ended(self):
        """Return all jobs, when they have ended."""
        async with self.calling() as anna:
            return [await patiently(lambda job=job: until_ended(anna, job)) for job in self.jobs]

    async def attempts(self):
        """Return the newest attempt of every task."""
        async with self.calling() as anna:
            asked = [scheduler_pb2.ListTasksRequest(job_id=job) for job in self.jobs]
            answers = [
                await patiently(lambda request=request: anna.ListTasks(request, timeout=10)) for request in asked
            ]
        return [task.ref.attempt for answer in answers for task in answer.tasks]

    def report(self, jobs):
        published, twice = self.published()
        staged = {key for key, _ in self.archive.staged}
        counts = {
            "tasks": len(jobs) * TASKS,
            "succeeded": sum(job.counts.normal for job in jobs),
            "lost": len(jobs) * TASKS - len(published),
            "published_twice": len(twice),
            "published_but_not_made": len(
                {(*key, *attempts) for key, attempts in published.items()} - staged - self.fleet.told
            ),
            "made_by_real_workers": len(staged),
            "discarded": sum(told[0] == "discard" for told in self.archive.told),
            "scripted_deaths": self.fleet.deaths,
            "starts": {program.name: program.starts for program in (*self.schedulers, *self.workers)},
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


async def patiently(call):
    """Repeat a call until it is answered, as the client does."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return await call()
        except (grpc.RpcError, DpuError, AssertionError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


@asynccontextmanager
async def trial(folder, number=1, database=None, *, deaths=0.02):
    """Give a trial whose jobs are submitted and run."""
    others = Others(folder)
    schedulers = [Scheduler(folder, name, others.address, database) for name in "ab"[:number]]
    with (
        proxied(schedulers[0].socket, str(folder / "line")) as line,
        proxied(line.address, str(folder / "partition")) as partition,
    ):
        running = Trial(folder, others, (line, partition), schedulers, deaths)
        scripted = [ScriptedWorker(running.fleet, f"scripted-{number}") for number in range(2)]
        runs = [scheduler.run() for scheduler in schedulers]
        async with others.serving(), background(*runs, running.route()):
            for _ in range(JOBS):
                await running.submit()
            async with background(*(worker.run() for worker in (*scripted, *running.workers))):
                yield running


async def settled(running):
    """Check, when all has ended, that nothing was lost, doubled or made up; return what was counted."""
    jobs = await running.ended()
    counts = running.report(jobs)
    ends = {(job.state, job.failure.message) for job in jobs}
    assert ends == {(job_pb2.JOB_STATE_FINISHED, "")}, ends
    assert (counts["succeeded"], counts["lost"], counts["published_twice"]) == (counts["tasks"], 0, 0), counts
    assert counts["published_but_not_made"] == 0, counts
    assert counts["made_by_real_workers"] > 0, counts
    closed = {told[1] for told in running.logs.told if told[0] == "close_job"}
    assert closed == set(running.jobs), closed
    return counts
