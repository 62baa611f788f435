"""deep=True, as the client submits it."""

import pytest
from google.protobuf.json_format import Parse

from dpu.errors import UnknownOption
from dpu.submission import asked, deepened
from dpu_api.v1.catalogue_pb2 import Catalogue
from dpu_recipes.describe import describe


@pytest.fixture(scope="module")
def catalogue():
    return Parse(describe(), Catalogue())


def stages(sequence):
    return [stage.recipe for stage in sequence.stages]


@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("ReadNoise", []),
        ("Bias", ["ReadNoise"]),
        ("HotPixels", ["ReadNoise", "Bias"]),
        ("DomeFlat", ["ReadNoise", "Bias"]),
        ("ColdPixels", ["ReadNoise", "Bias", "DomeFlat", "TwilightFlat"]),
        (
            "MasterFlat",
            ["ReadNoise", "Bias", "HotPixels", "DomeFlat", "TwilightFlat", "ColdPixels", "NightSkyFlat"],
        ),
    ],
)
def test_each_stage_comes_after_those_that_make_what_it_needs(catalogue, name, before):
    sequence = next(item for item in catalogue.sequences if item.name == name)
    assert stages(deepened(catalogue, sequence)) == [*before, name]
    assert stages(sequence) == [name]


def test_what_was_asked_for_is_named_and_parameters_of_all_stages_are_known(catalogue):
    given = {"i": "WFI", "d": "2000-04-28", "p": {"ReadNoise.process_params.MAXIMUM_ITERATIONS": 3}}
    sequence, options = asked(catalogue, "Bias", {**given, "deep": True})
    assert (stages(sequence), options["targets"], options["deep"]) == (["ReadNoise", "Bias"], ["Bias"], 1)
    with pytest.raises(UnknownOption, match="Bias has no process parameter"):
        asked(catalogue, "Bias", {**given, "deep": False})


def test_what_a_flat_is_made_of_on_a_night_without_a_lamp_is_told(catalogue):
    found = {stage.recipe: stage for item in catalogue.sequences for stage in item.stages}
    assert dict(found["MasterFlat"].selects_with) == {"combine=3": "TwilightFlatFrame"}
    assert list(found["ColdPixels"].instead) == ["TwilightFlatFrame"]
    assert not found["MasterFlat"].instead
