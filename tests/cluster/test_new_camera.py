"""A camera that nobody shipped: one TOML file beside the DPU, a night of 2 biases and 2 flats, and calibrations."""

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

CAMERA = """
name = "HELDOUT"
telescope = "a telescope of nobody"
longitude_deg = 101.3
recognise = [{ DETECTOR = "held out ?", CAMERA = "H*" }]
types = [
    { class = "RawBiasFrame", when = { FRAMETYP = "zero*", exptime = "<= 0.01" } },
    { class = "RawDomeFlatFrame", when = { FRAMETYP = "lamp*", exptime = "> 0" } },
]
chips = [{ name = "west" }, { name = "east", column = 1, gain = 1.7 }]

[detector]
chip_size = [320, 256]
pixel_arcsec = 0.5
gain = 2.1
read_noise = 4.0
saturation = 62000
strips = { prescan_x = 6, overscan_x = 40, prescan_y = 4, skip = 3 }

[keys]
date_obs = "SHUTOPEN"
exptime = "TEXP"
filter = "FILTERID"
chip = "CCDNAME"
object = "TARGET"

[minima]
BiasFrame = 2
DomeFlatFrame = 2
"""
NIGHT = ("--instrument", "HELDOUT", "--scale", "1", "--biases", "2", "--domes", "2", "--filter", "Q")


@pytest.fixture
def dpu(tmp_path: Path) -> Iterator[Processor]:
    home, night = tmp_path / "dpu", tmp_path / "night"
    (home / "instruments").mkdir(parents=True)
    (home / "instruments" / "heldout.toml").write_text(CAMERA)
    simulate = [sys.executable, "-m", "dpu_recipes.simulate", night, *NIGHT, "--instruments", home / "instruments"]
    subprocess.run(simulate, check=True, capture_output=True)
    processor = Processor(Config(home=home, username="ann"), reporter=Reporter(out=io.StringIO()))
    summary = ingest(processor.link, find_files([night / "raw"]), print)
    assert summary.lines() == ["4 files, 8 new frames, 0 already there, 0 refused"]
    yield processor
    processor.close()
    local.stop(home)


def test_a_camera_that_only_a_toml_describes_reduces_a_night_of_two_biases_and_two_flats(dpu: Processor) -> None:
    ended = {}
    for sequence in ("ReadNoise", "Bias", "HotPixels", "DomeFlat", "ColdPixels"):
        job = dpu.run(sequence, i="HELDOUT", d="2000-04-28", C=1)
        ended[sequence] = dpu.wait(job, timeout=100), [product.chip for product in dpu.get_job_result(job)]
    assert ended == dict.fromkeys(ended, ("FINISHED", ["east", "west"]))
