"""How fast lines come in, are read and reach a follower; lines of 100 bytes, acknowledged after fsync.

The service is a process of its own on one core, everything that sends and reads has another.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from dpu.channel import open_async_channel
from dpu.values import to_map
from dpu_api.v1.job_pb2 import TaskRef, TaskSpec
from dpu_api.v1.logs_pb2 import AppendRequest, LogBatch, ReadRequest
from dpu_api.v1.logs_pb2_grpc import LogServiceStub
from dpud.hosting.logsetup import set_up_logging
from tests.benchmarks.figure import Figure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

# What the tests start a service and a worker with.
sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes_logs_cluster import JOB, USERS, House, Program, started
from fakes_worker import PROJECT, SECRET, surroundings, until

BATCH = 600
TEXT = "x" * 100
IN_LINES, OUT_LINES, MANY_LINES = 2_000_000, 300_000, 10_000_000
RATE, LAG_S = 1_000, 20
PRINT_LINES = 500_000
MIB = 1024 * 1024

RECIPES = """
def Paced(options, archive, scratch, spec):
    begun = time.monotonic()
    for number in range(spec.arguments["lines"]):
        wait = begun + number / spec.arguments["rate"] - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        print(f"{time.time_ns():<100}")

def Flood(options, archive, scratch, spec):
    for number in range(spec.arguments["lines"]):
        print("x" * 100)
"""


def figures() -> Iterator[Figure]:
    """Measure lines in, lines out, lag and memory."""
    set_up_logging("logs")
    value = asyncio.run(_ingest(IN_LINES))[0]
    yield _figure("lines_per_s", value, peer="tee -a, one sync at the end", peer_value=_tee(), bar="at least 100000")
    yield _figure("runner_lines_per_s", asyncio.run(_through_a_worker()))
    for followers in (1, 10, 100):
        yield _figure(f"follow_lines_per_s_{followers}", asyncio.run(_follow(followers)))
    lags = asyncio.run(_lags())
    for percent, bar in ((50, ""), (99, "at most 100 ms")):
        value = lags[len(lags) * percent // 100] * 1e3
        yield Figure(bench="logs", figure=f"lag_p{percent}_ms", value=value, unit="ms", bar=bar)
    _, early, peak = asyncio.run(_ingest(MANY_LINES, MANY_LINES // 10))
    yield Figure(bench="logs", figure="mb_after_1m_lines", value=early, unit="MB")
    yield Figure(bench="logs", figure="peak_mb", value=peak, unit="MB", bar="flat at 10,000,000 lines")


def _figure(name: str, value: float, *, peer: str = "", peer_value: float | None = None, bar: str = "") -> Figure:
    return Figure(
        bench="logs",
        figure=name,
        value=value,
        unit="1/s",
        peer=peer,
        peer_value=peer_value,
        bar=bar,
        less_is_better=False,
    )


@contextmanager
def _house() -> Iterator[House]:
    """Give a log service on the first core; this process keeps to the others."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="dpu", ignore_cleanup_errors=True) as folder:
        house = House(Path(folder))
        with started(house.logs):
            os.sched_setaffinity(house.logs.pid, cores[:1])
            os.sched_setaffinity(0, cores[1:] or cores)
            try:
                yield house
            finally:
                os.sched_setaffinity(0, cores)


def _requests(lines: int) -> Iterator[AppendRequest]:
    batch = LogBatch(
        ref=TaskRef(job_id=JOB, task=1, attempt=1),
        time_us=[time.time_ns() // 1000] * BATCH,
        levels=b"\2" * BATCH,
        streams=b"\1" * BATCH,
        texts=[TEXT] * BATCH,
    )
    for batch.first in range(0, lines, BATCH):
        yield AppendRequest(batch=batch, project=PROJECT)


async def _send(house: House, lines: int, *, at: int = 0) -> tuple[float, float]:
    """Send lines down one stream; return the seconds until the last is durable, and the service's MB after `at`."""
    service = psutil.Process(house.logs.pid)
    early = 0.0
    async with open_async_channel(house.address, SECRET) as channel:
        call = LogServiceStub(channel).Append(wait_for_ready=True)
        await call.wait_for_connection()
        begun = time.perf_counter()

        async def write() -> None:
            for request in _requests(lines):
                await call.write(request)
            await call.done_writing()

        writing = asyncio.create_task(write())
        async for answer in call:
            if at and not early and answer.acknowledged >= at:
                early = service.memory_info().rss / 1e6
        await writing
        return time.perf_counter() - begun, early


async def _ingest(lines: int, at: int = 0) -> tuple[float, float, float]:
    """Return lines a second into the service, its MB after `at` lines, and its peak."""
    with _house() as house:
        seconds, early = await _send(house, lines, at=at)
        return lines / seconds, early, _peak_mb(house.logs.pid)


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def _tee() -> float:
    """Return the lines a second that `tee -a` appends to a file, and a sync at the end."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        source.write_text(f"{TEXT}\n" * IN_LINES)
        begun = time.perf_counter()
        with source.open() as lines:
            subprocess.run(["tee", "-a", f"{folder}/out"], stdin=lines, stdout=subprocess.DEVNULL, check=True)
        subprocess.run(["sync", f"{folder}/out"], check=True)
        return IN_LINES / (time.perf_counter() - begun)


async def _follow(followers: int) -> float:
    """Return the lines a second that reach followers of a job while it is written, all of them together."""
    with _house() as house:
        async with AsyncExitStack() as stack:
            stubs = []
            # A client has a connection of its own.
            for _ in range(followers):
                channel = await stack.enter_async_context(open_async_channel(house.address, USERS, PROJECT))
                await channel.channel_ready()
                stubs.append(LogServiceStub(channel))
            lines = OUT_LINES // min(followers, 10)
            lines -= lines % BATCH
            reading = [asyncio.create_task(_read(stub, lines)) for stub in stubs]
            begun = time.perf_counter()
            await asyncio.gather(_send(house, lines), *reading)
            return followers * lines / (time.perf_counter() - begun)


async def _read(stub: LogServiceStub, lines: int) -> None:
    async for response in stub.Read(ReadRequest(job_id=JOB, follow=True, head=lines), wait_for_ready=True):
        if response.HasField("end"):
            return


async def _working(house: House, recipe: str, **arguments: int) -> AsyncIterator[Callable[[], None]]:
    """Give what has a real worker run a recipe, once; go on when it has ended."""
    async with surroundings(house.folder) as rig:
        worker: Program = house.worker(f"unix:{house.folder}/dpu.sock", house.address, 1)
        with started(worker):
            await until(lambda: rig.scheduler.registered, "the worker", 60)
            digest = rig.ship(RECIPES)
            lease = rig.lease(recipe, digest, spec=TaskSpec(arguments=to_map(arguments)), time_s=600.0)
            yield lambda: rig.scheduler.give(lease)
            await until(lambda: rig.scheduler.reports, "the task's end", 600)


async def _through_a_worker() -> float:
    """Return the lines a second from print, through runner and worker, to fsync."""
    with _house() as house:
        async for begin in _working(house, "Flood", lines=PRINT_LINES):
            first, last = 0.0, 0.0
            async for batch in _followed(house, PRINT_LINES, begin):
                first, last = first or batch.time_us[0] / 1e6, time.time()
            return PRINT_LINES / (last - first)
    raise AssertionError("the worker never ran")


async def _lags() -> list[float]:
    """Return the seconds from print to follower of lines at RATE a second, sorted."""
    lags: list[float] = []
    with _house() as house:
        async for begin in _working(house, "Paced", lines=RATE * LAG_S, rate=RATE):
            async for batch in _followed(house, RATE * LAG_S, begin):
                now = time.time_ns()
                lags += [(now - int(text)) / 1e9 for text in batch.texts]
    return sorted(lags)


async def _followed(house: House, lines: int, begin: Callable[[], None]) -> AsyncIterator[LogBatch]:
    """Follow a job that begins when somebody follows it; give its lines as they come."""
    async with open_async_channel(house.address, USERS, PROJECT) as channel:
        call = LogServiceStub(channel).Read(ReadRequest(job_id=JOB, follow=True, head=lines), wait_for_ready=True)
        await channel.channel_ready()
        begin()
        async for response in call:
            if response.HasField("batch"):
                yield response.batch
