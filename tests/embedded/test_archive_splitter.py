"""Parsers that end with their archive start no others."""

import asyncio
import sys
from pathlib import Path

import psutil
import pytest

from dpu.errors import Unreachable
from dpud.archive.splitter import Splitter
from fakes_scheduler import until

#: Takes what it is asked, and never answers.
SILENT = (sys.executable, "-c", "import sys; [None for _ in sys.stdin]")


async def test_who_waits_for_a_parser_that_is_closed_is_told_and_no_other_is_started(tmp_path: Path) -> None:
    splitter = Splitter(SILENT)
    before = set(psutil.Process().children())
    waiting = asyncio.create_task(splitter.pack(tmp_path / "frame", "r.fits", tmp_path / "packed"))
    await until(lambda: set(psutil.Process().children()) - before, lambda: "no parser was started", 60)
    started = set(psutil.Process().children()) - before
    await splitter.close()
    for asked in (waiting, splitter.pack(tmp_path / "frame", "r.fits", tmp_path / "packed")):
        with pytest.raises(Unreachable, match="going down"):
            await asked
    assert not any(process.is_running() for process in started)
    assert set(psutil.Process().children()) == before
