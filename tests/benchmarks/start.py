"""How long a user waits before the first job: import, prompt, DPU, and the smallest job."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dpu import local
from tests.benchmarks.figure import Figure, median_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN = Path(sys.executable).parent


def figures() -> Iterator[Figure]:
    """Measure import dpu, `awe --version` and the start of the embedded DPU."""
    yield Figure(
        bench="start",
        figure="import_dpu_s",
        value=median_seconds(lambda: _run(sys.executable, "-c", "import dpu"), 9),
        unit="s",
        peer="python -c pass",
        peer_value=median_seconds(lambda: _run(sys.executable, "-c", "pass"), 9),
        bar="at most 0.2 s",
    )
    yield Figure(
        bench="start",
        figure="awe_version_s",
        value=median_seconds(lambda: _run(str(BIN / "awe"), "--version")),
        unit="s",
    )
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)

        def start_and_stop() -> None:
            local.ensure(home)
            local.stop(home)

        yield Figure(bench="start", figure="embedded_start_stop_s", value=median_seconds(start_and_stop, 3), unit="s")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
