"""A night made from its raw frames by one job, and everything that one can ask the archive about it afterwards."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dpu import local
from dpu.config import Config
from dpu.context import Context
from dpu.errors import Conflict, NotAllowed, NotFound
from dpu.ingest import find_files, ingest
from dpu.processor import Processor
from dpu.query import frame_classes
from dpu.report import Reporter
from dpu_api.v1.scheduler_pb2 import GetJobRequest

NIGHT = ("--instrument", "WFI", "--chips", "2", "--scale", "0.1", "--biases", "4", "--seed", "11")
ASKED = {"i": "WFI", "d": "2000-04-28"}


@pytest.fixture(scope="module")
def dpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processor]:
    folder = tmp_path_factory.mktemp("asked")
    subprocess.run(
        [sys.executable, "-m", "dpu_recipes.simulate", folder / "night", *NIGHT], check=True, capture_output=True
    )
    home = folder / "dpu"
    with pytest.MonkeyPatch.context() as patch:
        # A session's log file is written where one works.
        patch.chdir(folder)
        processor = Processor(Config(home=home, username="ann"), reporter=Reporter(out=io.StringIO()))
    ingest(processor.link, find_files([folder / "night" / "raw"]), print)
    yield processor
    processor.close()
    local.stop(home)


@pytest.fixture(scope="module")
def maps(dpu: Processor) -> list:
    """The hot pixels of a night of which nothing was there but raw frames."""
    job = dpu.run("HotPixels", **ASKED, C=1, deep=True)
    assert dpu.wait(job, timeout=300) == "FINISHED", dpu.get_logs(job)
    counts = dpu.link.ask(lambda s: s.scheduler.GetJob, GetJobRequest(job_id=job)).job.counts
    # Read noise, bias and map of two chips.
    assert counts.normal == 6
    return dpu.get_job_result(job)


@pytest.fixture(scope="module")
def kinds(dpu: Processor) -> dict:
    return frame_classes(lambda: dpu.link, dpu.catalogue)


def printed(dpu: Processor) -> str:
    """What was printed since one asked last."""
    out = dpu._reporter.out
    text = out.getvalue()
    out.seek(0)
    out.truncate()
    return text


def test_deep_makes_from_raw_frames_all_that_is_missing_and_no_more(dpu, maps):
    assert [product.frame_class for product in maps] == ["HotPixelMap"] * 2
    # Nothing is missing any more.
    job = dpu.run("HotPixels", **ASKED, C=1, deep=True)
    assert dpu.wait(job, timeout=300) == "FINISHED"
    log = str(dpu.get_logs(job))
    assert "is not made again" in log
    assert dpu.get_job_result(job) == []


@pytest.mark.usefixtures("maps")
def test_deep_makes_what_one_chip_is_missing(dpu, kinds):
    context = Context(dpu)
    noises = {product.chip: product for product in kinds["ReadNoise"].select(is_valid=1)}
    assert set(noises) == {"ccd50", "ccd51"}
    context.update_is_valid(noises["ccd51"], 0)
    job = dpu.run("Bias", **ASKED, C=1, deep=True)
    assert dpu.wait(job, timeout=300) == "FINISHED"
    counts = dpu.link.ask(lambda s: s.scheduler.GetJob, GetJobRequest(job_id=job)).job.counts
    # One read noise; and of two biases one, as the other stands.
    assert (counts.normal, [product.chip for product in dpu.get_job_result(job)]) == (3, ["ccd51"])


def test_the_lineage_of_a_product_leads_back_to_raw_frames(dpu, maps, tmp_path):
    lineage = dpu.lineage(maps[0])
    lines = repr(lineage).splitlines()
    assert [line.strip(" +-|").split()[0] for line in lines] == [
        *("HotPixelMap", "BiasFrame"),
        *["RawBiasFrame"] * 4,
        *("ReadNoise", "RawBiasFrame", "RawBiasFrame"),
    ]
    assert lineage.plot(tmp_path / "lineage.png").read_bytes().startswith(b"\x89PNG")
    raw = next(item for item in lineage.frames.values() if item.frame_class == "RawBiasFrame")
    progeny = dpu.lineage(raw.file_name, progeny=True)
    assert maps[0].id in progeny.frames


def test_a_product_is_made_again_to_the_last_pixel(dpu, maps):
    bias = next(item for item in dpu.lineage(maps[0]).frames.values() if item.frame_class == "BiasFrame")
    for product in (maps[0], bias):
        again = dpu.reproduce(product)
        assert again.same, again
        assert again.pixels > 0
        assert "was made again: all" in repr(again)
        assert again.again.id != product.id
    noise = next(item for item in dpu.lineage(maps[0]).frames.values() if item.frame_class == "ReadNoise")
    assert repr(dpu.reproduce(noise)).endswith("all values are the same")


@pytest.mark.usefixtures("maps")
def test_the_choice_of_calibrations_is_explained(dpu, kinds):
    raw = kinds["RawBiasFrame"].select(i="WFI", c="ccd50")[0]
    printed(dpu)
    dpu.calibrations(raw)
    lines = printed(dpu).splitlines()
    assert lines[0].startswith(f"RawBiasFrame {raw.file_name} (WFI ccd50, night 2000-04-28")
    told = {line.split()[0]: line for line in lines[1:]}
    assert "same night, newest of" in told["BiasFrame"]
    assert "dpu.run('Gain', i='WFI', d='2000-04-28', C=1)" in told["GainLinearity"]


@pytest.mark.usefixtures("maps")
def test_frames_are_asked_for_by_attributes(kinds):
    raw, bias = kinds["RawBiasFrame"], kinds["BiasFrame"]
    everything = raw.select(instrument="WFI", date="2000-04-28")
    assert len(everything) == 8
    assert len((raw.CHIP == "ccd50") & (raw.NIGHT == "2000-04-28")) == 4
    assert len((raw.CHIP == "ccd50") | (raw.CHIP == "ccd51")) == 8
    assert len((raw.CHIP == "ccd50") & (raw.EXPTIME > 1)) == 0
    assert len(everything.user_only()) == len(everything.project_only()) == 8
    newest = bias.select(c="ccd50").max("creation_date")
    assert newest.creation_date == max(item.creation_date for item in bias.select(c="ccd50"))


@pytest.mark.usefixtures("maps")
def test_frames_are_listed_in_a_shell(dpu, capsys, monkeypatch):
    from dpu.query import main

    monkeypatch.setenv("DPU_HOME", str(dpu.config.home))
    monkeypatch.setenv("DPU_USERNAME", "ann")
    assert main(["RawBiasFrame", "chip=ccd50"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "4 frames"
    assert main(["ReadNoise", "chip~ccd5?", "is_valid=1", "--max", "creation_date", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["frame_class"] == "ReadNoise"


def test_a_product_goes_only_when_nothing_was_made_from_it(dpu, maps, kinds):
    context = Context(dpu)
    bias = next(item for item in dpu.lineage(maps[0]).frames.values() if item.frame_class == "BiasFrame")
    with pytest.raises(Conflict, match=r"HotPixelMap .* made from it; delete these first"):
        context.delete(bias)
    with pytest.raises(NotAllowed, match="is a raw frame"):
        context.delete(kinds["RawBiasFrame"].select()[0].file_name)
    assert context.set_privileges(maps[0], 3).privileges == 3
    with pytest.raises(NotAllowed, match="is of level 3"):
        context.delete(maps[0])
    context.set_privileges(maps[0], 1)
    context.delete(maps[0])
    with pytest.raises(NotFound):
        dpu.lineage(maps[0])
