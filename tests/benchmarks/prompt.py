"""How long a user waits for the prompt, for an import and for a status: warm, against a DPU that is there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dpu import local
from tests.benchmarks.figure import Figure, median_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BIN = Path(sys.executable).parent
RUNS = 9


def figures() -> Iterator[Figure]:
    """Measure `import dpu`, `awe` until it has read its first line, and `dpu status`."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"DPU_HOME": f"{folder}/dpu", "IPYTHONDIR": folder, "DPU_CONFIG": os.devnull}
        local.ensure(Path(folder) / "dpu")
        try:
            yield _figure("import_dpu_s", "at most 0.2 s", environment, sys.executable, "-c", "import dpu")
            yield _figure("awe_to_prompt_s", "below 1.0 s", environment, str(BIN / "awe"))
            yield _figure("status_s", "below 0.3 s", environment, str(BIN / "dpu"), "status")
        finally:
            local.stop(Path(folder) / "dpu")


def _figure(name: str, bar: str, environment: Mapping[str, str], *command: str) -> Figure:
    """Return the time of a command that is told to end as soon as it reads."""

    def run() -> None:
        subprocess.run(command, env=environment, input=b"exit\n", stdout=subprocess.DEVNULL, check=True)

    return Figure(bench="prompt", figure=name, value=median_seconds(run, RUNS), unit="s", bar=bar)
