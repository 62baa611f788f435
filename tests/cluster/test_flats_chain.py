"""A night's flats through an embedded DPU: each sequence uses what the ones before it have made."""

import io
import json
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


#: By recipe: the class that it reads, and what it says of one frame of a night without calibrations.
REFUSED = {
    "ReadNoise": ("RawBiasFrame", "ReadNoise needs at least 2 frames"),
    "Bias": ("RawBiasFrame", "Bias needs at least 3 frames"),
    "Gain": ("RawDomeFlatFrame", "Gain needs at least 2 frames"),
    "DomeFlat": ("RawDomeFlatFrame", "DomeFlat needs at least 3 frames"),
    "TwilightFlat": ("RawTwilightFlatFrame", "TwilightFlat needs at least 3 frames"),
    "NightSkyFlat": ("RawScienceFrame", "NightSkyFlat needs at least 3 frames"),
    "FringeFlat": ("RawScienceFrame", "FringeFlat needs at least 3 frames"),
    "QuickCheck": ("RawDomeFlatFrame", "Make one: dpu.run('Bias', i='WFI', d='2000-04-28'"),
}


def test_what_a_recipe_refuses_ends_e_with_the_line_that_says_why(dpu: Processor, tmp_path: Path) -> None:
    truth = json.loads((tmp_path / "night" / "truth" / "night.json").read_text())
    files = sorted(path.name for path in (tmp_path / "night" / "raw").iterdir())
    first = {exposure["frame_class"]: files[place] for place, exposure in reversed([*enumerate(truth["exposures"])])}
    jobs = {recipe: dpu.run(recipe, i="WFI", raw=[first[raw]], C=1) for recipe, (raw, _) in REFUSED.items()}
    assert {recipe: dpu.wait(job, timeout=100) for recipe, job in jobs.items()} == dict.fromkeys(REFUSED, "FAILED")
    for recipe, (_, line) in REFUSED.items():
        view = dpu.job(jobs[recipe])
        assert view.status.endswith("N/E/A/S/U 0/1/0/0/0"), view.status
        (error,) = [task.error for task in view.tasks if task.error]
        assert line in error
        assert dpu.get_job_result(jobs[recipe]) == []
