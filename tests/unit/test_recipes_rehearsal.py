"""Dry runs: what the plan of a stage tells, and that nothing comes of it."""

import logging
from pathlib import Path

import pytest

from dpu_recipes.deep import needs
from dpu_recipes.task import RecipeError
from fakes_recipes import Night


@pytest.fixture
def night(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Night:
    caplog.set_level(logging.INFO)
    made = Night(tmp_path)
    for _ in range(4):
        made.bias()
    return made


def told(night: Night, caplog: pytest.LogCaptureFixture, recipe: str, **options: object) -> list[str]:
    """Rehearse a stage and return what it told, file names and the archive's reasons left out."""
    caplog.clear()
    assert night.plan(recipe, dryrun=1, **options) == []
    texts = [record.getMessage() for record in caplog.records if record.getMessage().startswith(f"{recipe} ")]
    return [text.partition(": no valid")[0] for text in texts]


def test_what_would_run_is_told_with_its_inputs(night, caplog):
    assert told(night, caplog, "ReadNoise") == [
        "ReadNoise of ccd50 : would be made from 2 RawBiasFrame",
        "ReadNoise : 1 task would run, 0 products there already; about 1 s on one processor",
    ]
    assert night.products("ReadNoise") == []


def test_what_is_missing_is_told_with_the_call_that_makes_it(night, caplog):
    assert told(night, caplog, "Bias") == [
        "Bias of ccd50 : would be made from 4 RawBiasFrame",
        "Bias of ccd50 : lacks a ReadNoise",
        (
            "Bias : 1 task would run, 1 of them without what they need, 0 products there already; "
            "about 2 s on one processor"
        ),
    ]
    assert "dpu.run('ReadNoise', i='WFI', d='2000-04-28', C=1)" in caplog.text


def test_what_exists_is_told_and_would_be_made_again_by_force(night, caplog):
    (made,) = night.run("ReadNoise")
    assert told(night, caplog, "ReadNoise") == [
        f"ReadNoise of ccd50 : exists, {made.file_name}, and would not be made again",
        "ReadNoise : 0 tasks would run, 1 product there already",
    ]
    assert told(night, caplog, "ReadNoise", force=1)[0] == "ReadNoise of ccd50 : would be made from 2 RawBiasFrame"


def test_a_deep_job_waits_for_what_its_earlier_stages_make(night, caplog):
    deep = {"deep": 1, "targets": ["Bias"]}
    assert told(night, caplog, "ReadNoise", **deep)[0] == "ReadNoise of ccd50 : would be made from 2 RawBiasFrame"
    assert told(night, caplog, "Bias", **deep)[1] == "Bias of ccd50 : waits for a ReadNoise of a stage before"


def test_a_stage_that_begins_with_what_another_makes_says_so(night, caplog):
    (line,) = told(night, caplog, "HotPixels")
    assert line.startswith("HotPixels : would begin with what comes before it; so far there is no BiasFrame of WFI")


def test_what_cannot_begin_at_all_is_refused_as_a_run_is(night):
    with pytest.raises(RecipeError, match="there is no RawDomeFlatFrame"):
        night.plan("DomeFlat", dryrun=1)


def test_a_master_flat_of_one_flat_needs_no_other():
    assert "TwilightFlatFrame" in needs("MasterFlat", {"combine": 1})
    assert "TwilightFlatFrame" not in needs("MasterFlat", {"combine": 2})


def test_a_master_flat_needs_that_of_the_night_sky_where_it_is_asked_for():
    assert "NightSkyFlatFrame" not in needs("MasterFlat", {"pars": {}})
    assert "NightSkyFlatFrame" in needs("MasterFlat", {"pars": {"MasterFlatFrame.process_params.NIGHT_SKY": 1}})


def test_what_it_would_begin_with_instead_is_told(night, caplog):
    night.bias(frame_class="TwilightFlatFrame", filter="#879", overscan=6)
    assert told(night, caplog, "ColdPixels")[0] == "ColdPixels of ccd50 : would be made from 1 TwilightFlatFrame"
