"""The queue page of a busy DPU: 100,000 jobs in the history, 1,000 that run, and 200 who follow them live."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from dpu.channel import open_channel
from dpu.values import to_map
from dpu_api.v1 import (
    catalogue_pb2,
    dispatch_pb2,
    job_pb2,
    scheduler_pb2,
    scheduler_pb2_grpc,
)
from dpud.scheduler.catalogue import Stage
from dpud.scheduler.counts import Counts
from dpud.scheduler.events import WorkerCordoned
from dpud.scheduler.journal_sql import SqlJournal
from dpud.scheduler.model import Job, JobState, Limits
from tests.benchmarks.figure import Figure
from tests.benchmarks.scale import USERS, Scheduler
from tests.benchmarks.standins import beside, standing_in

if TYPE_CHECKING:
    from collections.abc import Iterator

HISTORY, RUNNING, TASKS = 100_000, 1_000, 8
#: The newest job, by which is told when a change has come to whoever follows.
MARKED = 60
FOLLOWERS = 200
#: For so long they follow, while so many tasks end a second.
FOLLOWED_S, ENDS_A_SECOND = 20, 300
REQUESTS = 40
SEQUENCES = ("Bias", "ReadNoise", "DomeFlat", "MasterFlat", "Reduce")
#: What is asked for, beside the first page: among everything, by a few jobs, deep in the past.
ASKED = {
    "search": "/?search=wfi+2000-04-07+user03",
    "failed": "/?state=FAILED&user=user05",
    "statistics": "/statistics",
}


def selection(number: int) -> bytes:
    """Return the options of a job."""
    plain = {"instrument": "WFI" if number % 3 else "OMEGACAM", "date": f"2000-04-{number % 28 + 1:02}"}
    return to_map(plain | {"filter": f"#84{number % 7}", "object": f"field {number % 50}"}).SerializeToString()


def past(number: int, now: float) -> Job:
    """Return a job that ended within the last hundred days."""
    ended = now - 86_400 * 100 * (1 - number / HISTORY) - 60
    return Job(
        id=number,
        user=USERS[number % len(USERS)],
        project="kids",
        sequence=SEQUENCES[number % len(SEQUENCES)],
        stages=(Stage("Bias", 1.0, 512),),
        options=selection(number),
        code_digest="",
        limits=Limits(),
        priority=0,
        commit=True,
        submitted=ended - 400,
        estimate_s=300.0,
        state=JobState.FAILED if number % 40 == 0 else JobState.FINISHED,
        counts=Counts(normal=32),
        started=ended - 330,
        ended=ended,
        busy_s=32 * 10.0,
    )


def write_history(folder: Path) -> None:
    """Write what ended into the journal of a scheduler that is yet to start."""
    (folder / "state").mkdir(mode=0o700)
    now = time.time()
    with closing(SqlJournal.open_file(folder / "state" / "journal.sqlite")) as journal:
        for first in range(1, HISTORY, 1_000):
            jobs = [past(number, now) for number in range(first, first + 1_000)]
            # Of an event that changes nothing: a group is never empty.
            journal.append([WorkerCordoned("none", cordoned=False, by="bench", at=now)], jobs, jobs)


@dataclass
class Busy:
    """A scheduler with a past, with jobs that run, and a worker that ends their tasks."""

    scheduler: Scheduler
    leases: dict[tuple[int, int], dispatch_pb2.TaskLease] = field(default_factory=dict)
    newest: int = 0
    renewed: float = 0.0

    def fill(self) -> None:
        """Submit the jobs, the one that is marked last, and lease all their tasks."""
        for number in range(RUNNING - 1):
            self._submit(USERS[number % len(USERS)], number, TASKS)
        self.newest = self._submit(USERS[0], 0, MARKED)
        while len(self.leases) < (RUNNING - 1) * TASKS + MARKED:
            self.work([], room=500)

    def _submit(self, user: str, number: int, tasks: int) -> int:
        request = scheduler_pb2.SubmitJobRequest(
            request_id=str(uuid.uuid4()),
            sequence=catalogue_pb2.Sequence(
                name=SEQUENCES[number % len(SEQUENCES)], stages=[catalogue_pb2.Stage(recipe="Bias", seconds=1)]
            ),
            tasks=[job_pb2.TaskSpec(label=f"ccd{chip}", seconds=1) for chip in range(tasks)],
        )
        request.options.MergeFromString(selection(number))
        for name in request.options.entries:
            request.sequence.options.add(long_name=name, kind=catalogue_pb2.OptionKind.OPTION_KIND_TEXT)
        with open_channel(self.scheduler.address, user, "kids") as channel:
            return scheduler_pb2_grpc.SchedulerServiceStub(channel).SubmitJob(request, timeout=120).job.id

    def work(self, ended: list[dispatch_pb2.TaskLease], room: int = 0) -> None:
        """End tasks, claim others, and keep what is held now and then."""
        held = self.leases.values() if time.monotonic() - self.renewed > 8 else ()
        self.renewed = time.monotonic() if held else self.renewed
        request = dispatch_pb2.WorkRequest(
            session=self.scheduler.session,
            ended=[dispatch_pb2.TaskReport(ref=lease.ref, token=lease.token, run_s=1) for lease in ended],
            held=[dispatch_pb2.HeldLease(ref=lease.ref, token=lease.token) for lease in held],
            room=room,
            memory_mib=10**9,
        )
        for lease in self.scheduler.dispatch.Work(request, timeout=120).leases:
            self.leases[lease.ref.job_id, lease.ref.task] = lease

    def end_some(self, count: int) -> None:
        """End tasks of any jobs, but no job."""
        free = [key for key in self.leases if key[1] and key[0] != self.newest]
        self.work([self.leases.pop(key) for key in random.sample(free, min(count, len(free)))])

    def end_marked(self) -> bytes:
        """End a task of the newest job; return what its row says then."""
        left = [key for key in self.leases if key[0] == self.newest]
        self.work([self.leases.pop(left[0])])
        return f"{MARKED + 1 - len(left)}/0/0/{len(left) - 1}/0".encode()


class Page:
    """The process of the pages, and a browser that is signed in there."""

    def __init__(self, folder: Path, **services: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        settings = {
            "DPU_NAME": "busy",
            "DPU_LISTEN": f"127.0.0.1:{self.port}",
            **{f"DPU_{name.upper()}": address for name, address in services.items()},
        }
        with (folder / "web.log").open("ab") as log:
            command = [sys.executable, "-m", "dpud", "web"]
            self.process = subprocess.Popen(command, env=os.environ | settings, stdout=log, stderr=log)
        self._jar = CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._jar))

    def sign_in(self, token: str, project: str = "kids") -> None:
        """Sign in, as soon as the process answers."""
        form = urllib.parse.urlencode({"token": token, "project": project}).encode()
        while True:
            with suppress(urllib.error.URLError):
                self._opener.open(f"http://127.0.0.1:{self.port}/login", form, timeout=60).read()
                return
            time.sleep(0.05)

    @property
    def cookies(self) -> str:
        """What a browser sends with every request."""
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self._jar)

    def request(self, path: str) -> bytes:
        """Return a request as it is sent."""
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {self.cookies}\r\n\r\n".encode()

    def first_byte_s(self, path: str) -> float:
        """Return the time from a request to the first byte of its answer, by a connection of its own."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            begun = time.perf_counter()
            connection.sendall(self.request(path))
            first = connection.recv(12)
            passed = time.perf_counter() - begun
        assert first == b"HTTP/1.1 200", first
        return passed

    def size(self, path: str) -> int:
        """Return how many bytes a page has, with its script and its style."""
        return sum(
            len(self._opener.open(f"http://127.0.0.1:{self.port}{each}", timeout=60).read())
            for each in (path, "/static/queue.js", "/static/style.css", "/static/icon.svg")
        )

    def deep(self) -> str:
        """Return the address of a page deep in the past."""
        path = "/?sequence=Bias"
        for _ in range(20):
            with self._opener.open(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
                path = answer.read().decode().partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
        return path

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


@dataclass
class Followers:
    """Those who look at the queue: how many have seen a row, and when."""

    page: Page
    marker: bytes = b""
    told: float = 0.0
    lags: list[float] = field(default_factory=list)
    received: int = 0

    async def follow(self) -> None:
        """Follow the queue, and note how long the row that is waited for took."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.page.port)
        writer.write(self.page.request("/live?after=0"))
        seen, rest = b"", b""
        try:
            while data := await reader.read(1 << 18):
                self.received += len(data)
                rest = rest[-16:] + data
                if self.marker != seen and self.marker in rest:
                    seen = self.marker
                    self.lags.append(time.perf_counter() - self.told)
        finally:
            writer.close()

    async def watch(self, busy: Busy) -> float:
        """Have tasks end while all follow; return the seconds of a processor that the pages took a second."""
        following = [asyncio.create_task(self.follow()) for _ in range(FOLLOWERS)]
        await asyncio.sleep(3)
        self.marker = await asyncio.to_thread(busy.end_marked)
        process = psutil.Process(self.page.process.pid)
        before, begun = cpu_s(process), time.perf_counter()
        for second in range(FOLLOWED_S * 10):
            await asyncio.to_thread(busy.end_some, ENDS_A_SECOND // 10)
            if second % 20 == 0:
                self.marker, self.told = await asyncio.to_thread(busy.end_marked), time.perf_counter()
            await asyncio.sleep(max(0.0, begun + (second + 1) / 10 - time.perf_counter()))
        share = (cpu_s(process) - before) / (time.perf_counter() - begun)
        for each in following:
            each.cancel()
        return share


def cpu_s(process: psutil.Process) -> float:
    """Return the processor time that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def started() -> Iterator[tuple[Busy, Page]]:
    """Give a busy DPU and its pages."""
    with tempfile.TemporaryDirectory(prefix="dpu") as name, standing_in(Path(name), HISTORY):
        folder = Path(name)
        write_history(folder)
        busy = Busy(Scheduler(folder))
        busy.scheduler.start()
        others = beside(folder)
        page = Page(folder, scheduler=busy.scheduler.address, logs=others, archive=others)
        try:
            busy.scheduler.register()
            busy.fill()
            page.sign_in(USERS[0])
            yield busy, page
        finally:
            page.close()
            busy.scheduler.kill()


def figures() -> Iterator[Figure]:
    """Measure the pages, first alone, then while they are followed."""
    with started() as (busy, page):
        busy.work([])
        for name, path in {"": "/", **ASKED, "deep": page.deep()}.items():
            page.first_byte_s(path)
            times = sorted(page.first_byte_s(path) for _ in range(REQUESTS))
            busy.work([])
            label = f"{name}_first_byte_ms" if name else "first_byte_ms"
            yield _figure(label, statistics.median(times) * 1e3, "ms", "less than 50")
        yield _figure("page_kb", page.size("/") / 1e3, "kB", "less than 300")
        followers = Followers(page)
        share = asyncio.run(followers.watch(busy))
        yield _figure("followers_200_cores", share, "cores", "at most 1")
        expected = FOLLOWERS * FOLLOWED_S // 2
        print(f"{len(followers.lags)} of {expected} changes seen, {followers.received / 1e6:.0f} MB", file=sys.stderr)
        lags = sorted(followers.lags)
        yield _figure("followers_lag_ms", statistics.median(lags) * 1e3, "ms")
        yield _figure("followers_lag_p99_ms", lags[int(len(lags) * 0.99)] * 1e3, "ms")


def _figure(name: str, value: float, unit: str, bar: str = "") -> Figure:
    return Figure(bench="web", figure=name, value=value, unit=unit, bar=bar)
