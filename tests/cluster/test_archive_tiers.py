"""Frozen frames in a whole DPU: `awe archive` moves them, and jobs read them in place as if they had never gone."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from dpu import local
from dpu.config import Config
from dpu.errors import BadOption, NothingSelected
from dpu.ingest import find_files, ingest
from dpu.processor import Processor
from dpu.tiers import main

NIGHT = ("--instrument", "WFI", "--chips", "1", "--scale", "0.1", "--biases", "4", "--seed", "11")


@pytest.fixture(scope="module")
def dpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processor]:
    folder = tmp_path_factory.mktemp("tiers")
    subprocess.run(
        [sys.executable, "-m", "dpu_recipes.simulate", folder / "night", *NIGHT], check=True, capture_output=True
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DPU_HOME", str(folder / "dpu"))
        processor = Processor(Config(home=folder / "dpu", username="ann"))
        ingest(processor.link, find_files([folder / "night" / "raw"]), print)
        yield processor
        processor.close()
        local.stop(folder / "dpu")


def test_a_night_that_was_frozen_is_reduced_as_if_it_had_never_gone(dpu: Processor, capsys) -> None:
    assert main(["freeze", "--class", "RawBiasFrame", "--before", "2001-01-01", "--dry-run"]) == 0
    assert main(["freeze", "--class", "RawBiasFrame", "--before", "2001-01-01"]) == 0
    trial, done = capsys.readouterr().out.splitlines()[-2:]
    assert trial.startswith("4 files would be frozen: ")
    assert done.startswith("4 files frozen: ")
    assert done.endswith(" times less")
    assert status(capsys) == ["0", "4"]
    job = dpu.run("ReadNoise", i="WFI", d="2000-04-28", C=1)
    assert dpu.wait(job, timeout=300) == "FINISHED", dpu.get_logs(job)
    # A pair of biases was read, and so thawed; beside it lies the figure that was drawn.
    assert status(capsys) == ["3", "2"]


def test_what_makes_no_sense_is_one_line(dpu: Processor) -> None:
    assert dpu
    with pytest.raises(BadOption, match="--before 'yesterday': must be a date, CCYY-MM-DD"):
        main(["freeze", "--before", "yesterday"])
    with pytest.raises(BadOption, match="--older-than 'long': must be a number of days, as 365"):
        main(["freeze", "--older-than", "long"])
    with pytest.raises(BadOption, match="say which frames"):
        main(["freeze"])
    with pytest.raises(NothingSelected, match="has no RawBais"):
        main(["freeze", "--class", "RawBais"])
    with pytest.raises(NothingSelected, match="nothing to be frozen"):
        main(["freeze", "--older-than", "365"])


def status(capsys) -> list[str]:
    """Return how many files lie in the warm and in the cold tier."""
    assert main(["status"]) == 0
    _, warm, cold = capsys.readouterr().out.splitlines()[-3:]
    return [line.split()[2] for line in (warm, cold)]
