"""A task that prints a gigabyte: all of it is heard, in bounded memory, and nobody is harmed."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from dpu_api.v1 import logs_pb2
from dpud.worker.leases import key_of
from fakes_worker import FORMS, Rig, until, working_as

MIB = 1 << 20
#: A line is as long as a line of a log is; so many of them are a gigabyte.
LINE, LINES = 1000, 1_000_000
RECIPES = f"""
def Flood(options, archive, scratch, spec):
    for number in range({LINES} // 1000):
        os.write(1, (b"x" * {LINE - 1} + b"\\n") * 1000)

def Well(options, archive, scratch, spec):
    print("well")
"""


class Counted:
    """Counts lines, and keeps none."""

    def __init__(self) -> None:
        self.lines: dict[Any, int] = {}
        self.bytes = 0

    def take(self, request: Any) -> logs_pb2.AppendResponse:
        batch = request.batch
        key = key_of(batch.ref)
        assert batch.first == self.lines.get(key, 0), "a line is missing, or came twice"
        self.lines[key] = batch.first + len(batch.texts)
        self.bytes += sum(map(len, batch.texts))
        return logs_pb2.AppendResponse(ref=batch.ref, acknowledged=self.lines[key])

    def has(self, key: Any, lines: int) -> bool:
        return self.lines.get(key) == lines


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    # In a process of its own, whose memory is looked at.
    async with working_as(FORMS[0], tmp_path) as running:
        yield running


@pytest.mark.timeout(900)
async def test_a_task_that_prints_a_gigabyte_is_heard_to_the_end_and_harms_nobody(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted()
    monkeypatch.setattr(rig.logs, "_take", counted.take)
    worker = psutil.Process(rig.worker_pid)
    before = worker.memory_info().rss
    digest = rig.ship(RECIPES)
    flood, well = rig.lease("Flood", digest, time_s=800.0), rig.lease("Well", digest)
    for lease, lines in ((flood, LINES), (well, 1)):
        rig.scheduler.give(lease)
        report = await rig.reported(lease, 850.0)
        assert not report.HasField("failure"), report
        assert report.log_lines == lines
        await until(partial(counted.has, key_of(lease.ref), lines), f"{lines} lines", 60.0)
    assert counted.bytes == LINES * (LINE - 1) + len("well")
    assert worker.memory_info().rss - before < 300 * MIB
