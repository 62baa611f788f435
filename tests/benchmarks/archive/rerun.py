"""How long a second run of an unchanged night takes: every task ends normally, and nothing is computed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from dpu import local
from dpu.config import Config
from dpu.ingest import find_files, ingest
from dpu.processor import Processor
from dpu.report import Reporter
from tests.benchmarks.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

#: 25 chips and four sequences of them: 100 products.
CHIPS, PRODUCTS = 25, 100
NIGHT = ("--instrument", "OMEGACAM", "--chips", str(CHIPS), "--scale", "0.05", "--biases", "4", "--domes", "3")
SEQUENCES = ("ReadNoise", "Bias", "HotPixels", "DomeFlat")
ASKED = {"i": "OMEGACAM", "d": "2000-04-28", "C": 1}
ROUNDS = 5
PATIENCE_S = 900.0


def figures(folder: Path) -> Iterator[Figure]:
    """Make a night once, then run it again through `dpu.run` and `dpu.wait`; the median of some runs counts."""
    simulate = [sys.executable, "-m", "dpu_recipes.simulate", str(folder / "night"), *NIGHT]
    subprocess.run(simulate, check=True, stdout=sys.stderr)
    home = folder / "dpu"
    before = Path.cwd()
    os.chdir(folder)
    processor = Processor(Config(home=home, username="bench"), reporter=Reporter(out=io.StringIO()))
    try:
        ingest(processor.link, find_files([folder / "night" / "raw"]), lambda _: None)
        if (made := _run(processor)) != PRODUCTS:
            raise RuntimeError(f"the night gave {made} products, not {PRODUCTS}")
        seconds = [_again(processor) for _ in range(ROUNDS)]
    finally:
        processor.close()
        local.stop(home)
        os.chdir(before)
    print(f"second runs took {', '.join(f'{value:.2f}' for value in seconds)} s", file=sys.stderr)
    yield Figure(
        bench="archive", figure="second_run_s", value=median(seconds), unit="s for 100 products", bar="under 2 s"
    )


def _run(processor: Processor) -> int:
    """Run the night, each sequence after the one that it needs, and return how many products were made."""
    made = 0
    for name in SEQUENCES:
        job = processor.run(name, **ASKED)
        if (state := processor.wait(job, timeout=PATIENCE_S)) != "FINISHED":
            raise RuntimeError(f"{name} has ended as {state}: {processor.get_logs(job)}")
        made += len(processor.get_job_result(job))
    return made


def _again(processor: Processor) -> float:
    begun = time.perf_counter()
    made = _run(processor)
    spent = time.perf_counter() - begun
    if made:
        raise RuntimeError(f"a second run made {made} products of an unchanged night: was the code changed meanwhile?")
    return spent
