"""The page of a log of a million lines: its last, its first, those in the middle, and few among many."""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dpu.channel import open_async_channel
from dpu_api.v1.job_pb2 import TaskRef
from dpu_api.v1.logs_pb2 import AppendRequest, LogBatch
from dpu_api.v1.logs_pb2_grpc import LogServiceStub
from dpud.hosting.tokens import token_row
from tests.benchmarks.figure import Figure
from tests.benchmarks.web import Page

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the tests start a service with, and a scripted scheduler.
sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes_client import Script, job, serving
from fakes_logs_cluster import JOB, USERS, House, started
from fakes_worker import PROJECT, SECRET

LINES, BATCH, REQUESTS = 1_000_000, 1_000, 20
#: Stands in one line of so many.
RARE, EVERY = "needle", 20_000
HALF = LINES // 2
ASKED = {
    "last": "",
    "first": "?behind=0",
    "middle": f"?before={HALF}",
    "search": f"?text={RARE}",
    "search_behind": f"?text={RARE}&behind={HALF}",
}


def figures() -> Iterator[Figure]:
    """Measure the first byte of each page."""
    with tempfile.TemporaryDirectory(prefix="dpu", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        house = House(folder)
        reader = token_row(USERS, "anna", [PROJECT], ["user"])
        with started(house.logs), serving(folder, Script(jobs={JOB: job(JOB)}), more=reader) as others:
            asyncio.run(append(house))
            page = Page(folder, scheduler=others, archive=others, logs=house.address)
            try:
                page.sign_in(USERS, PROJECT)
                for which, query in ASKED.items():
                    path = f"/jobs/{JOB}/log{query}"
                    page.first_byte_s(path)
                    times = [page.first_byte_s(path) for _ in range(REQUESTS)]
                    yield Figure(
                        bench="logpage",
                        figure=f"{which}_first_byte_ms",
                        value=statistics.median(times) * 1e3,
                        unit="ms",
                    )
            finally:
                page.close()


async def append(house: House) -> None:
    """Write the log."""
    async with open_async_channel(house.address, SECRET) as channel:
        call = LogServiceStub(channel).Append(wait_for_ready=True)

        async def write() -> None:
            for first in range(0, LINES, BATCH):
                await call.write(AppendRequest(batch=lines(first), project=PROJECT))
            await call.done_writing()

        writing = asyncio.create_task(write())
        async for _ in call:
            pass
        await writing


def lines(first: int) -> LogBatch:
    """Return a batch of lines of a task."""
    numbers = range(first, first + BATCH)
    return LogBatch(
        ref=TaskRef(job_id=JOB, task=1, attempt=1),
        first=first,
        time_us=[time.time_ns() // 1000] * BATCH,
        levels=b"\2" * BATCH,
        streams=b"\1" * BATCH,
        texts=[f"Line {number} {RARE if number % EVERY == 0 else 'of many'}" for number in numbers],
    )
