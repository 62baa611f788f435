"""A night's flats through an embedded DPU: each sequence uses what the ones before it have made."""

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpu import local
from dpu.config import Config
from dpu.ingest import find_files, ingest
from dpu.processor import Processor
from dpu.report import Reporter

CHAIN = (
    *("ReadNoise", "Bias", "HotPixels", "Gain", "DomeFlat", "ColdPixels", "TwilightFlat", "MasterFlat"),
    *("QuickCheck", "NightSkyFlat", "FringeFlat"),
)
NIGHT = ("--chips", "1", "--scale", "0.0625", "--biases", "3", "--domes", "3", "--twilights", "3", "--sciences", "3")


@pytest.fixture
def dpu(tmp_path: Path) -> Iterator[Processor]:
    folder = tmp_path / "night"
    subprocess.run([sys.executable, "-m", "dpu_recipes.simulate", folder, *NIGHT], check=True, capture_output=True)
    home = tmp_path / "dpu"
    processor = Processor(Config(home=home, username="ann"), reporter=Reporter(out=io.StringIO()))
    ingest(processor.link, find_files([folder / "raw"]), print)
    yield processor
    processor.close()
    local.stop(home)


def test_each_sequence_uses_what_the_ones_before_it_made(dpu: Processor) -> None:
    ended = {}
    for sequence in CHAIN:
        job = dpu.run(sequence, i="WFI", d="2000-04-28", C=1)
        ended[sequence] = dpu.wait(job, timeout=100), [product.chip for product in dpu.get_job_result(job)]
    assert ended == dict.fromkeys(CHAIN, ("FINISHED", ["ccd50"]))
