from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dpu_recipes import pars, registry
from dpu_recipes.pars import BadParameter, parameter
from dpu_recipes.sequences import OPTIONS, SEQUENCES, options_of
from dpu_recipes.task import RecipeError
from dpu_recipes.tasks.bias import Bias, BiasParameters
from dpu_recipes.validity import CALIBRATIONS
from fakes_recipes import Night

SIGMA_CLIP = "BiasFrame.process_params.SIGMA_CLIP"


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


@dataclass(frozen=True, kw_only=True)
class Parameters:
    THRESHOLD: float = parameter(5.0, "how far", unit="sigma", minimum=1)
    ITERATIONS: int = parameter(5, "how often", minimum=1)
    PART: float = parameter(0.1, "how much", maximum=1)


def resolved(changed: dict[str, Any], limits: dict[str, Any] | None = None) -> Parameters:
    return pars.resolved(Parameters, "Thing", changed=changed, limits=limits or {})


def test_the_sequences_are_listed_in_the_original_order():
    original = (
        *("HotPixels", "ReadNoise", "Bias", "MasterFlat", "NightSkyFlat", "DomeFlat", "TwilightFlat"),
        *("Gain", "ColdPixels", "QuickCheck", "FringeFlat"),
    )
    names = [sequence.name for sequence in SEQUENCES]
    assert names == [name for name in original if name in names]


def test_hot_pixels_has_the_options_of_the_original():
    options = SEQUENCES[0].option_list()
    assert [option.short for option in options] == ["i", "d", "c", "p", "C"]
    assert [option.long for option in options] == ["instrument", "date", "chip", "pars", "commit"]


@pytest.mark.parametrize("name", ["ReadNoise", "Bias"])
def test_recipes_that_read_raw_frames_take_an_overscan_method_and_file_names(name: str):
    (sequence,) = [sequence for sequence in SEQUENCES if sequence.name == name]
    assert sequence.options == "i d c oc p C raw"
    assert sequence.one_of() == ["date", "raw_filenames"]


@pytest.mark.parametrize("name", ["DomeFlat", "TwilightFlat", "QuickCheck", "NightSkyFlat", "FringeFlat"])
def test_flats_take_a_filter_too(name: str):
    (sequence,) = [sequence for sequence in SEQUENCES if sequence.name == name]
    assert sequence.options == "i d c f oc p C raw"


def test_calls_that_make_a_calibration_name_only_options_that_there_are():
    takes = {sequence.name: sequence.options.split() for sequence in SEQUENCES}
    for known in CALIBRATIONS.values():
        if known.sequence in takes:
            assert known.from_raw == ("oc" in takes[known.sequence]), known
            assert not known.by_filter or "f" in takes[known.sequence], known


def test_a_master_flat_takes_how_to_combine():
    (sequence,) = [sequence for sequence in SEQUENCES if sequence.name == "MasterFlat"]
    assert sequence.options == "i d c f p C combine"
    combine = OPTIONS["combine"]
    assert (combine.default, combine.minimum, combine.maximum) == (1, 1, 3)


def test_every_option_is_named_once_and_explained():
    longs = [option.long for option in OPTIONS.values()]
    assert len(set(longs)) == len(longs)
    assert all(option.help and option.short == short for short, option in OPTIONS.items())


def test_every_stage_has_its_recipe_which_names_itself():
    for sequence in SEQUENCES:
        for stage in sequence.stages:
            recipe = registry.find(stage)
            assert recipe.name == stage
            assert next(iter(options_of(stage))) == "instrument"


def test_every_flag_of_a_recipe_is_a_limit_among_its_parameters():
    for name in registry.names():
        recipe = registry.find(name)
        known = {whole.rpartition(".")[2] for whole in pars.flat(recipe.makes, recipe.parameters)}
        assert {flag.name for flag in recipe.flags} == {name for name in known if name.startswith("MAXIMUM_")} - {
            "MAXIMUM_ITERATIONS"
        }


def test_a_recipe_is_found_by_its_name():
    assert isinstance(registry.find("Bias"), Bias)


@pytest.mark.parametrize("name", ["Bais", "bias", "Bias.x", "", "Product", "RawFrames"])
def test_an_unknown_recipe_is_refused(name: str):
    with pytest.raises(RecipeError, match=f"'{name}'"):
        registry.find(name)


def test_an_unknown_recipe_is_refused_with_the_nearest_name():
    with pytest.raises(RecipeError, match=r"^there is no recipe 'Baias'; the nearest is 'Bias'$"):
        registry.find("Baias")


def test_a_recipe_that_is_near_none_is_refused_with_those_that_there_are():
    with pytest.raises(RecipeError, match=r"^there is no recipe 'GAstrometry'; known are HotPixels, ReadNoise, Bias, "):
        registry.find("GAstrometry")


def test_an_unknown_option_is_refused_with_the_nearest_name(night: Night):
    with pytest.raises(RecipeError, match=r"^there is no option 'overscann'; the nearest is 'overscan'$"):
        night.plan("Bias", overscann=6)


def test_an_unknown_instrument_is_refused_with_the_known_ones(night: Night):
    with pytest.raises(RecipeError, match=r"instrument 'WFII' is not one of .*NICKEL.*WFI"):
        night.plan("Bias", instrument="WFII")


def test_an_instrument_is_required(night: Night):
    with pytest.raises(RecipeError, match="option 'instrument' is required"):
        night.plan("Bias", instrument="")


def test_something_that_selects_frames_is_required(night: Night):
    with pytest.raises(RecipeError, match="option 'date' .* is required"):
        night.plan("Bias", date="")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"date": "2000-04-31"}, "option 'date': '2000-04-31' is not a night"),
        ({"date": "28/4/2000"}, "option 'date': '28/4/2000' is not a night"),
        ({"overscan": 11}, "option 'overscan': 11 is not between 0 and 10"),
        ({"overscan": "six"}, "option 'overscan': 'six' is not a whole number"),
        ({"commit": 2}, "option 'commit': 2 is not between 0 and 1"),
    ],
)
def test_a_value_that_an_option_cannot_have_is_refused(night: Night, options: dict[str, Any], message: str):
    with pytest.raises(RecipeError, match=message):
        night.plan("Bias", **options)


def test_an_unknown_parameter_is_refused_with_the_nearest_name(night: Night):
    name = "BiasFrame.process_params.SIGMA_CLIPP"
    with pytest.raises(BadParameter, match=f"there is no process parameter '{name}'; the nearest is '{SIGMA_CLIP}'"):
        night.plan("Bias", pars={name: 5.0})


def test_a_parameter_of_another_stage_is_no_error(night: Night):
    night.bias()
    assert night.plan("ReadNoise", pars={SIGMA_CLIP: 5.0})


def test_parameters_have_their_whole_names_in_the_order_of_declaration():
    assert pars.flat("BiasFrame", BiasParameters) == {
        SIGMA_CLIP: 3.0,
        "BiasFrame.process_params.MAXIMUM_ABS_MEAN": 10.0,
        "BiasFrame.process_params.MAXIMUM_STDEV": 10.0,
        "BiasFrame.process_params.MAXIMUM_STDEV_DIFFERENCE": 10.0,
        "BiasFrame.process_params.MAXIMUM_SUBWIN_FLATNESS": 100000.0,
        "BiasFrame.process_params.MAXIMUM_SUBWIN_STDEV": 100000.0,
    }


def test_flat_parameters_resolve_to_what_they_came_from():
    given = Parameters(THRESHOLD=3.5, ITERATIONS=7)
    assert resolved(pars.flat("Thing", given)) == given


def test_the_user_overrides_the_instrument_and_that_the_default():
    name = "Thing.process_params.THRESHOLD"
    assert resolved({}).THRESHOLD == 5.0
    assert resolved({}, {"THRESHOLD": 4, "ANOTHER": 1}).THRESHOLD == 4.0
    assert resolved({name: 3}, {"THRESHOLD": 4}).THRESHOLD == 3.0


def test_a_parameter_keeps_its_type():
    found = resolved({"Thing.process_params.THRESHOLD": 3, "Thing.process_params.ITERATIONS": 7.0})
    assert (type(found.THRESHOLD), type(found.ITERATIONS)) == (float, int)


@pytest.mark.parametrize("value", ["5", None, True, float("nan"), float("inf"), 0.5, [5.0]])
def test_a_value_that_a_parameter_cannot_have_is_refused(value: object):
    with pytest.raises(BadParameter, match=r"Thing.process_params.THRESHOLD=.* must be a number of at least 1"):
        resolved({"Thing.process_params.THRESHOLD": value})


@pytest.mark.parametrize("value", [-0.1, 1.5, "0.5"])
def test_a_value_beyond_both_bounds_is_refused(value: object):
    with pytest.raises(BadParameter, match=r"Thing.process_params.PART=.* must be a number from 0 to 1$"):
        resolved({"Thing.process_params.PART": value})


def test_a_fraction_is_no_whole_number():
    with pytest.raises(BadParameter, match=r"ITERATIONS=2.5 must be a whole number of at least 1"):
        resolved({"Thing.process_params.ITERATIONS": 2.5})
