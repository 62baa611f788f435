"""What deep=True makes first, and products that are made again as they were made."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dpu_recipes import registry, validity
from dpu_recipes.archive import MissingCalibration
from dpu_recipes.deep import NEEDS
from dpu_recipes.frames import EPOCH, Frame
from dpu_recipes.task import TaskSpec
from dpu_recipes.validity import CALIBRATIONS
from fakes_recipes import Night

STAGES = ("ReadNoise", "Bias", "HotPixels")


@pytest.fixture
def night(tmp_path: Path) -> Night:
    made = Night(tmp_path)
    for _ in range(4):
        made.bias()
    return made


def deeply(night: Night, target: str = "HotPixels", **options: object) -> list[str]:
    """Run the stages of a deep job and return the classes of what was made."""
    return [frame.frame_class for name in STAGES for frame in night.run(name, deep=1, targets=[target], **options)]


def test_what_is_needed_is_what_recipes_can_make_or_cameras_write():
    assert set(NEEDS) <= set(registry.names())
    for needed in NEEDS.values():
        assert set(needed) <= set(CALIBRATIONS)


def test_from_raw_frames_alone_everything_is_made_and_then_nothing(night):
    assert deeply(night) == ["ReadNoise", "BiasFrame", "HotPixelMap"]
    assert deeply(night) == []


#: What is made first for each recipe, from raw frames alone and with every option at its default.
FOR_FLATS = ["ReadNoise", "Bias"]
FOR_MAPS = [*FOR_FLATS, "HotPixels", "DomeFlat", "ColdPixels"]
FIRST = {
    "ReadNoise": [],
    "Bias": ["ReadNoise"],
    "HotPixels": FOR_FLATS,
    "DomeFlat": FOR_FLATS,
    "TwilightFlat": FOR_FLATS,
    "NightSkyFlat": FOR_FLATS,
    "Gain": FOR_FLATS,
    "QuickCheck": FOR_FLATS,
    "ColdPixels": [*FOR_FLATS, "DomeFlat"],
    "MasterFlat": [*FOR_MAPS, "TwilightFlat"],
    "FringeFlat": [*FOR_MAPS, "TwilightFlat", "MasterFlat"],
}
#: An order in which each comes after those that it needs.
IN_TURN = [*FOR_MAPS, "TwilightFlat", "NightSkyFlat", "MasterFlat", "Gain", "QuickCheck", "FringeFlat"]
RAW = ("RawDomeFlatFrame", "RawTwilightFlatFrame", "RawScienceFrame")


def made_in_turn(night: Night, target: str, *, turn: Sequence[str] = IN_TURN, **options: object) -> list[str]:
    """Plan each stage before `target` with deep=1, add a product for each task, and return which had any."""
    planned = []
    for name in turn[: turn.index(target)] if target in turn else turn:
        specs = night.plan(name, deep=1, targets=[target], **options)
        planned += [name] if specs else []
        for spec in specs:
            source = night.archive.find(spec.inputs[0])
            makes = registry.find(name).makes
            window = validity.window(makes, source.night, -70.0) if makes in CALIBRATIONS else (EPOCH, EPOCH)
            made = source.evolve(frame_class=makes, overscan=6, inputs=spec.inputs, id="", file_name="", digest="")
            night.add(made.evolve(size=0, timestamp_start=window[0], timestamp_end=window[1]))
    return planned


@pytest.mark.parametrize("target", registry.names())
def test_for_every_recipe_what_it_misses_is_planned_first(night, target):
    for frame_class in RAW:
        for _ in range(4):
            night.bias(frame_class=frame_class, filter="#879", object="CDF4", exptime=10.0)
    assert made_in_turn(night, target) == FIRST[target]


@pytest.mark.parametrize(
    ("target", "options", "first"),
    [
        ("ColdPixels", {}, [*FOR_FLATS, "TwilightFlat"]),
        ("MasterFlat", {"combine": 3}, [*FOR_FLATS, "HotPixels", "TwilightFlat", "ColdPixels"]),
    ],
    ids=["ColdPixels", "MasterFlat"],
)
def test_of_a_telescope_without_a_lamp_the_twilight_flat_is_made_first(night, target, options, first):
    for _ in range(4):
        night.bias(frame_class="RawTwilightFlatFrame", filter="#879", exptime=10.0)
    turn = ("ReadNoise", "Bias", "HotPixels", "DomeFlat", "TwilightFlat", "ColdPixels")
    assert made_in_turn(night, target, turn=turn, **options) == first


def test_a_master_flat_with_the_night_sky_has_its_flat_made_first(night):
    for frame_class in RAW:
        for _ in range(4):
            night.bias(frame_class=frame_class, filter="#879", object="CDF4", exptime=10.0)
    pars = {"MasterFlatFrame.process_params.NIGHT_SKY": 1}
    assert made_in_turn(night, "MasterFlat", pars=pars) == [*FIRST["MasterFlat"], "NightSkyFlat"]


def test_what_is_there_is_not_planned(night):
    night.run("ReadNoise")
    assert night.plan("ReadNoise", deep=1, targets=["HotPixels"]) == []
    (spec,) = night.plan("Bias", deep=1, targets=["HotPixels"])
    assert spec.label == "ccd50"


def test_what_is_made_first_is_what_would_be_made_by_itself(night):
    deeply(night)
    # The same identity: it stands.
    assert [night.run(name) for name in STAGES] == [[], [], []]


def test_parameters_and_method_go_to_what_is_made_first(night):
    parameters = {"BiasFrame.process_params.SIGMA_CLIP": 4.0}
    deeply(night, pars=parameters)
    (bias,) = night.products("BiasFrame")
    assert bias.parameters["SIGMA_CLIP"] == 4.0


def test_only_stages_before_its_own_are_planned_by_what_is_missing(night):
    assert [len(night.plan(name, deep=1, targets=["Bias"])) for name in ("ReadNoise", "Bias")] == [1, 1]
    assert night.plan("HotPixels", deep=1, targets=["ReadNoise"]) == []


def test_what_cannot_be_made_is_a_warning_and_the_task_says_the_rest(tmp_path, caplog):
    night = Night(tmp_path)
    night.bias()
    with caplog.at_level(logging.WARNING, "dpu_recipes"):
        assert night.plan("ReadNoise", deep=1, targets=["DomeFlat"]) == []
    assert "DomeFlat can make nothing: there is no RawDomeFlatFrame of WFI" in caplog.text


def made_again(night: Night, product: Frame) -> Frame:
    call = json.loads(product.making)
    spec = TaskSpec(label="", inputs=tuple(call["inputs"]), arguments={**call["arguments"], "as was made": product.id})
    before = {frame.id for frame in night.products(product.frame_class)}
    options = call["options"]
    registry.run(call["recipe"], options, night.archive, night.scratch(), spec, known=night.instruments)
    (again,) = [frame for frame in night.products(product.frame_class) if frame.id not in before]
    return again


def test_a_product_is_made_again_with_the_calibrations_that_it_was_made_with(night):
    deeply(night)
    (bias,) = night.products("BiasFrame")
    night.run("ReadNoise", force=1)
    night.run("Bias", force=1)
    again = made_again(night, bias)
    assert again.inputs == bias.inputs
    assert (again.values, again.consulted, again.digest) == (bias.values, bias.consulted, bias.digest)
    assert json.loads(again.making) == json.loads(bias.making)
    assert np.array_equal(night.image(again), night.image(bias))


def test_what_is_made_again_compares_with_the_past_that_it_had(night):
    deeply(night)
    (second,) = night.run("HotPixels", force=1)
    assert "COUNT_DIFFERENCE" in second.values
    night.run("HotPixels", force=1)
    assert made_again(night, second).values == second.values


def test_a_calibration_that_was_not_used_is_not_there(night):
    deeply(night)
    (bias,) = night.products("BiasFrame")
    frame = night.archive.find(bias.inputs[0])
    with pytest.raises(MissingCalibration, match="was made without a GainLinearity"):
        registry.Replay(night.archive, bias).calibration("GainLinearity", frame)
