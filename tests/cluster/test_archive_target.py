"""Target processing through the embedded DPU: a second run of a night computes nothing."""

import io
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpu import local
from dpu.config import Config
from dpu.context import Context
from dpu.ingest import find_files, ingest
from dpu.processor import Processor
from dpu.report import Reporter
from dpu_api.v1.archive_pb2 import ListFramesRequest
from dpu_api.v1.scheduler_pb2 import GetJobRequest

NIGHT = ("--instrument", "WFI", "--chips", "2", "--scale", "0.1", "--biases", "4", "--seed", "7")
ASKED = {"i": "WFI", "d": "2000-04-28"}
CHAIN = ("ReadNoise", "Bias", "HotPixels")


@pytest.fixture
def dpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Processor]:
    # A session's log file is written where one works.
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "night"
    subprocess.run([sys.executable, "-m", "dpu_recipes.simulate", folder, *NIGHT], check=True, capture_output=True)
    home = tmp_path / "dpu"
    processor = Processor(Config(home=home, username="ann"), reporter=Reporter(out=io.StringIO()))
    ingest(processor.link, find_files([folder / "raw"]), print)
    yield processor
    processor.close()
    local.stop(home)


def run(dpu: Processor, sequence: str, **options: object) -> tuple[int, int]:
    """Run to the end; return how many tasks ended normally, and how many products the job has made."""
    job = dpu.run(sequence, **ASKED, **options)
    assert dpu.wait(job, timeout=90) == "FINISHED"
    counts = dpu.link.ask(lambda s: s.scheduler.GetJob, GetJobRequest(job_id=job)).job.counts
    return counts.normal, len(dpu.get_job_result(job))


def all_products(dpu: Processor) -> list[str]:
    answers = [
        dpu.link.ask(lambda s: s.archive.ListFrames, ListFramesRequest(frame_class=name))
        for name in ("ReadNoise", "BiasFrame", "HotPixelMap")
    ]
    return [frame.id for answer in answers for frame in answer.frames]


def test_a_second_run_of_a_night_is_all_n_and_makes_nothing(dpu: Processor) -> None:
    assert [run(dpu, name, C=1) for name in CHAIN] == [(2, 2)] * 3
    before = all_products(dpu)
    begun = time.monotonic()
    assert [run(dpu, name, C=1) for name in CHAIN] == [(2, 0)] * 3
    print(f"a second run of {len(before)} products took {time.monotonic() - begun:.2f} s")
    assert all_products(dpu) == before
    job = dpu.run("Bias", **ASKED, C=1)
    dpu.wait(job, timeout=90)
    assert str(dpu.get_logs([job])).count("exists, is valid and not outdated: it is not made again") == 2
    # Another read noise is another input of the bias, and that of the map.
    assert run(dpu, "ReadNoise", C=1, force=True) == (2, 2)
    assert [run(dpu, name, C=1) for name in CHAIN] == [(2, 0), (2, 2), (2, 2)]


def test_what_was_not_committed_is_no_reason_to_make_nothing(dpu: Processor) -> None:
    assert run(dpu, "ReadNoise")[0] == 2
    assert run(dpu, "ReadNoise", C=1) == (2, 2)
    # What the project has stands for a job without commit too.
    assert run(dpu, "ReadNoise") == (2, 0)


def test_after_a_bias_is_set_invalid_exactly_what_depends_on_it_is_remade(dpu: Processor) -> None:
    assert [run(dpu, name, C=1) for name in CHAIN] == [(2, 2)] * 3
    frames = dpu.link.ask(lambda s: s.archive.ListFrames, ListFramesRequest(frame_class="BiasFrame")).frames
    mistrusted, stays = sorted(frames, key=lambda frame: frame.chip)
    before = set(all_products(dpu))
    Context(dpu).update_is_valid(mistrusted.file_name, 0)
    # The read noise was no part of it; of bias and map the chip's own are made again.
    assert [run(dpu, name, C=1) for name in CHAIN] == [(2, 0), (2, 1), (2, 1)]
    lineages = [dpu.lineage(name) for name in all_products(dpu) if name not in before]
    assert sorted(item.product.frame_class for item in lineages) == ["BiasFrame", "HotPixelMap"]
    assert {item.product.chip for item in lineages} == {mistrusted.chip}
    assert not any({mistrusted.id, stays.id} & set(item.frames) for item in lineages)
    # And that stands.
    assert [run(dpu, name, C=1) for name in CHAIN] == [(2, 0)] * 3
