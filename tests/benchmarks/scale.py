"""What a million waiting tasks cost: 20 users, 1,000 jobs of 1,000 tasks, each with its own 120 bytes of options."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import grpc
import psutil

from dpu.channel import open_channel
from dpu_api.v1 import (
    catalogue_pb2,
    dispatch_pb2,
    dispatch_pb2_grpc,
    job_pb2,
    scheduler_pb2,
    scheduler_pb2_grpc,
)
from dpud.hosting.tokens import token_row
from dpud.scheduler.loop import MAX_ENDED
from tests.benchmarks.figure import Figure, median_seconds
from tests.benchmarks.standins import beside, standing_in

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

JOBS = 1_000
USERS = [f"user{number:02}" for number in range(20)]
BATCH = 32
#: Ended jobs that stay in memory, and how many leave it while claims are timed.
KEPT = MAX_ENDED
MOVED = 500
#: A claim is made so often, whether the one before was answered or not.
PACE_S = 0.02


@dataclass
class Scheduler:
    """One scheduler process, and a worker that claims from it."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    leases: list[dispatch_pb2.TaskLease] = field(default_factory=list)
    session: str = ""

    def __post_init__(self) -> None:
        rows = [token_row(user, user, ["*"], ["user"]) for user in USERS]
        (self.folder / "tokens.toml").write_text("\n".join([*rows, token_row("w", "worker", ["*"], ["worker"])]))
        (self.folder / "own.token").write_text("scheduler's")
        self.address = f"unix:{self.folder}/s"
        self._worker = open_channel(self.address, "w", "")
        self.dispatch = dispatch_pb2_grpc.DispatchServiceStub(self._worker)

    def start(self) -> None:
        """Start it, beside an archive and logs that agree to everything."""
        others = beside(self.folder)
        settings = {
            "DPU_NAME": "scale",
            "DPU_STATE": str(self.folder / "state"),
            "DPU_LISTEN": self.address,
            "DPU_TOKENS_FILE": str(self.folder / "tokens.toml"),
            "DPU_TOKEN_FILE": str(self.folder / "own.token"),
            **dict.fromkeys(("DPU_LOGS", "DPU_ARCHIVE", "DPU_CODE"), others),
        }
        command = [sys.executable, "-m", "dpud", "scheduler"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=os.environ | settings, stderr=log, stdout=log)

    def register(self) -> None:
        """Open a session, as soon as somebody answers."""
        request = dispatch_pb2.RegisterWorkerRequest(name="w", slots=1_000, memory_mib=10**6)
        while True:
            try:
                self.session = self.dispatch.RegisterWorker(request, timeout=60).session
            except grpc.RpcError:
                time.sleep(0.02)
            else:
                return

    def cycle(self, room: int) -> int:
        """End what is held and claim more; return how many were granted."""
        ended = [dispatch_pb2.TaskReport(ref=lease.ref, token=lease.token, run_s=1) for lease in self.leases]
        request = dispatch_pb2.WorkRequest(session=self.session, ended=ended, room=room, memory_mib=10**6)
        self.leases = list(self.dispatch.Work(request, timeout=120).leases)
        return len(self.leases)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    @property
    def memory(self) -> int:
        """Its resident bytes."""
        return int(psutil.Process(self._pid).memory_info().rss)

    @property
    def cpu_s(self) -> float:
        """The processor time that it has used."""
        times = psutil.Process(self._pid).cpu_times()
        return float(times.user + times.system)

    @property
    def _pid(self) -> int:
        assert self.process
        return self.process.pid


def submit(address: str, user: str, tasks: int) -> float:
    """Submit a job; return how long it took."""
    specs = [job_pb2.TaskSpec(label=f"t{number}", inputs=[f"{number:0120}"], seconds=1) for number in range(tasks)]
    sequence = catalogue_pb2.Sequence(name="Scale", stages=[catalogue_pb2.Stage(recipe="Scale", seconds=1)])
    request = scheduler_pb2.SubmitJobRequest(request_id=str(uuid.uuid4()), sequence=sequence, tasks=specs)
    with open_channel(address, user, "kids") as channel:
        begun = time.perf_counter()
        scheduler_pb2_grpc.SchedulerServiceStub(channel).SubmitJob(request, timeout=120)
        return time.perf_counter() - begun


def end_jobs(address: str, count: int, *, together: bool = False) -> None:
    """Submit jobs of one task each, and cancel them: one by one, or all `together`."""
    sequence = catalogue_pb2.Sequence(name="Short", stages=[catalogue_pb2.Stage(recipe="Short", seconds=1)])
    with open_channel(address, USERS[1], "kids") as channel:
        people = scheduler_pb2_grpc.SchedulerServiceStub(channel)
        for _ in range(count):
            request = scheduler_pb2.SubmitJobRequest(request_id=str(uuid.uuid4()), sequence=sequence)
            job = people.SubmitJob(request, timeout=120).job
            if not together:
                people.CancelJob(scheduler_pb2.CancelJobRequest(job_id=job.id), timeout=120)
        if together:
            people.CancelJobs(scheduler_pb2.CancelJobsRequest(mine=True, sequence="Short"), timeout=120)


@contextmanager
def people(address: str, user: str) -> Iterator[scheduler_pb2_grpc.SchedulerServiceStub]:
    """Give the scheduler as a user calls it."""
    with open_channel(address, user, "kids") as channel:
        yield scheduler_pb2_grpc.SchedulerServiceStub(channel)


def longest(scheduler: scheduler_pb2_grpc.SchedulerServiceStub) -> int:
    """Return the user's job of the most tasks."""
    listed = scheduler.ListJobs(scheduler_pb2.ListJobsRequest(user=USERS[0], page_size=1_000), timeout=120).jobs
    return max(listed, key=lambda job: job.counts.submitted).id


def do_again(address: str) -> None:
    """Cancel the longest job, and have it done again when it has ended."""
    with people(address, USERS[0]) as scheduler:
        job = longest(scheduler)
        scheduler.CancelJob(scheduler_pb2.CancelJobRequest(job_id=job), timeout=120)
        request = scheduler_pb2.RetryJobRequest(job_id=job, request_id=str(uuid.uuid4()))
        while True:
            try:
                scheduler.RetryJob(request, timeout=120)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                    raise
                time.sleep(0.01)
            else:
                return


def explain(address: str) -> float:
    """Return how long it takes to say what the longest job waits for."""
    with people(address, USERS[0]) as scheduler:
        request = scheduler_pb2.ExplainJobRequest(job_id=longest(scheduler))
        return median_seconds(lambda: scheduler.ExplainJob(request, timeout=120), 20)


def cancel_all(address: str) -> None:
    """Have all users cancel all that is theirs, one user after the other."""
    for user in USERS:
        with people(address, user) as scheduler:
            scheduler.CancelJobs(scheduler_pb2.CancelJobsRequest(mine=True), timeout=120)


@contextmanager
def started() -> Iterator[Scheduler]:
    """Give a scheduler in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="dpu") as folder, standing_in(Path(folder)):
        scheduler = Scheduler(Path(folder))
        scheduler.start()
        scheduler.register()
        try:
            yield scheduler
        finally:
            scheduler.kill()


def figures() -> Iterator[Figure]:
    """Measure at a thousand and at a million waiting tasks."""
    with started() as scheduler:
        submit(scheduler.address, USERS[0], 10_000)
        small = cost_us(scheduler, 9_000)
    with started() as scheduler, ProcessPoolExecutor(1, get_context("spawn")) as others:
        empty = scheduler.memory
        for number in range(JOBS):
            submit(scheduler.address, USERS[number % len(USERS)], 1_000)
        yield _figure("bytes_per_task", (scheduler.memory - empty) / (JOBS * 1_000), "bytes", "at most 1024")
        # The first session is over by now: nothing was heard of it.
        scheduler.register()
        large = cost_us(scheduler, 9_000)
        yield _figure("cost_us_1e6", large, "us")
        yield _figure("cost_ratio_1e6_to_1e3", large / small, "", "at most 1.5")
        # From here on, each job that ends sends one to the history.
        end_jobs(scheduler.address, KEPT, together=True)
        claims = Paced(scheduler)
        seconds = claims.during("a long submission", others.submit(submit, scheduler.address, USERS[0], 100_000))
        yield _figure("submit_100k_s", seconds, "s", "less than 2")
        claims.during("a snapshot", others.submit(shorten, scheduler.folder))
        claims.during("a move to the history", others.submit(end_jobs, scheduler.address, MOVED))
        yield _figure("claim_p99_ms", claims.p99_ms, "ms", "less than 50")
        begun = time.perf_counter()
        scheduler.kill()
        scheduler.start()
        scheduler.register()
        while not scheduler.cycle(1):
            pass
        yield _figure("restart_1m_s", time.perf_counter() - begun, "s", "less than 20")
        wishes = Paced(scheduler)
        wishes.during("a long job is cancelled and done again", others.submit(do_again, scheduler.address))
        seconds = wishes.during("a job is explained", others.submit(explain, scheduler.address))
        yield _figure("explain_ms", seconds * 1e3, "ms")
        wishes.during("all that waits is cancelled", others.submit(cancel_all, scheduler.address))
        yield _figure("claim_p99_wishes_ms", wishes.p99_ms, "ms", "less than 50")


def _figure(name: str, value: float, unit: str, bar: str = "") -> Figure:
    return Figure(bench="scale", figure=name, value=value, unit=unit, bar=bar)


def cost_us(scheduler: Scheduler, tasks: int) -> float:
    """Return the processor time that a lease and an end take."""
    before, done = scheduler.cpu_s, 0
    while done < tasks:
        done += scheduler.cycle(BATCH)
    return (scheduler.cpu_s - before) / done * 1e6


def shorten(folder: Path) -> None:
    """Make a snapshot as the scheduler's own process beside it does."""
    command = [sys.executable, "-m", "dpud.scheduler.snapshooter", "1"]
    url = f"sqlite:///{folder / 'state' / 'journal.sqlite'}"
    subprocess.run(command, input=url.encode(), check=True, stderr=subprocess.DEVNULL)


class Paced:
    """Claims at fixed times: one that comes late because of the one before is late all the same."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._late: list[float] = []

    def during(self, what: str, work: Future[T]) -> T:
        """Claim while another process is at work; return what comes of it."""
        before = len(self._late)
        self._claim(work)
        late = sorted(self._late[before:])
        slowest = ", ".join(f"{each * 1e3:.0f}" for each in late[-5:])
        print(f"{what}: {len(late)} claims, the slowest took {slowest} ms", file=sys.stderr)
        return work.result()

    def _claim(self, work: Future[T]) -> None:
        due = time.perf_counter()
        # Those that came due before the end are made, however late.
        while not work.done() or due < time.perf_counter():
            time.sleep(max(0.0, due - time.perf_counter()))
            self._scheduler.cycle(1)
            self._late.append(time.perf_counter() - due)
            due += PACE_S

    @property
    def p99_ms(self) -> float:
        """The latency that one claim in a hundred exceeds."""
        return sorted(self._late)[int(len(self._late) * 0.99)] * 1e3
