"""A whole DPU of real processes that fails on purpose: schedulers, workers real and by script, a line between them."""

import asyncio
import random
import time
from collections import defaultdict
from contextlib import asynccontextmanager

import grpc
from google.protobuf.duration_pb2 import Duration

import fakes_worker
from dpu.channel import open_async_channel
from dpu.errors import UnknownSession
from dpu.status import from_rpc
from dpu_api.v1 import dispatch_pb2, dispatch_pb2_grpc, job_pb2, scheduler_pb2, scheduler_pb2_grpc
from fakes_house import ending, specs, submission, until_ended
from fakes_network import proxied
from fakes_programs import DEADLINE_S, Others, Scheduler, patiently, worker_program
from fakes_scheduler import background, until

#: At least so many jobs of so many tasks; and so many tasks wait or run until all has failed that is to fail.
JOBS, TASKS, AHEAD = 8, 250, 400
#: A round of a scripted worker, which has so many tasks at a time.
ROUND_S = 0.5
SLOTS = 8


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
        #: Nothing is to fail any more; and nothing is submitted any more.
        self.spared, self.fed = asyncio.Event(), asyncio.Event()

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

    async def feed(self):
        """Submit more when little is left: however slow the machine is, something runs when something fails."""
        while len(self.jobs) < JOBS or not self.spared.is_set():
            published, _ = self.published()
            if len(self.jobs) < JOBS or len(self.jobs) * TASKS - len(published) < AHEAD:
                await self.submit()
            else:
                await asyncio.sleep(0.1)
        self.fed.set()

    async def recovered(self, fault, since=None):
        """Wait until work goes on, and note how long that took from the fault."""
        begun, before = since or time.monotonic(), len(self.archive.told)
        await until(
            lambda: len(self.archive.told) >= before + 8,
            lambda: f"work goes on after {fault}: {self.tails()}",
            DEADLINE_S,
        )
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
        async with others.serving(), background(*runs, running.route(), running.feed()):
            await until(lambda: running.jobs, running.tails, DEADLINE_S)
            async with background(*(worker.run() for worker in (*scripted, *running.workers))):
                yield running


async def settled(running):
    """Check, when all has ended, that nothing was lost, doubled or made up; return what was counted."""
    running.spared.set()
    await asyncio.wait_for(running.fed.wait(), DEADLINE_S)
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
