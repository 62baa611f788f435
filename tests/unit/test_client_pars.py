"""`Pars`: the tree as it is shown, what was changed, and every wrong name or value."""

import pytest

from dpu.errors import BadOption, UnknownOption
from dpu.pars import Pars
from dpu.values import to_map
from dpu_api.v1.catalogue_pb2 import Catalogue, Sequence, Stage


def stage(recipe: str, makes: str, own: dict | None = None, **parameters: object) -> Stage:
    whole = {f"{makes}.process_params.{name}": value for name, value in parameters.items()}
    found = Stage(recipe=recipe, makes=makes, parameters=to_map(whole))
    for name in whole:
        found.parameter_bounds[name].minimum = 1
    for name, changed in (own or {}).items():
        found.instrument_parameters[name].CopyFrom(to_map(changed))
    return found


NICKEL = {"NICKEL": {"BiasFrame.process_params.MAXIMUM_ABS_MEAN": 30.0}}
BIAS = stage("Bias", "BiasFrame", NICKEL, SIGMA_CLIP=3.0, MAXIMUM_ABS_MEAN=10.0)
HOT = stage("HotPixels", "HotPixelMap", COUNT=100)
CATALOGUE = Catalogue(
    sequences=[Sequence(name="Bias", stages=[BIAS]), Sequence(name="Bias>HotPixels", stages=[BIAS, HOT])]
)
SHOWN = """\
BiasFrame
 |
 +--process_params
 |   |
 |   +--MAXIMUM_ABS_MEAN: 10.0
 |   +--SIGMA_CLIP: 3.0
"""


class BiasFrame:
    pass


class BiasTask:
    pass


@pytest.mark.parametrize("what", ["BiasFrame", "Bias", "BiasTask", BiasFrame, BiasTask])
def test_a_class_a_task_and_a_sequence_show_the_documented_tree(what, capsys):
    Pars(CATALOGUE, what).show()
    assert capsys.readouterr().out == SHOWN


def test_a_chain_shows_every_class_in_the_order_of_its_stages(capsys):
    Pars(CATALOGUE, "Bias>HotPixels").show()
    assert capsys.readouterr().out == SHOWN + "HotPixelMap\n |\n +--process_params\n |   |\n |   +--COUNT: 100\n"


def test_an_instrument_has_defaults_of_its_own():
    pars = Pars(CATALOGUE, "Bias", "NICKEL")
    assert pars.BiasFrame.process_params.MAXIMUM_ABS_MEAN == 30.0
    assert Pars(CATALOGUE, "Bias", "WFI").BiasFrame.process_params.MAXIMUM_ABS_MEAN == 10.0
    assert pars.get() == {}


def test_get_returns_what_was_changed_and_show_shows_it(capsys):
    pars = Pars(CATALOGUE, "Bias")
    pars.BiasFrame.process_params.SIGMA_CLIP = 5
    assert pars.get() == {"BiasFrame.process_params.SIGMA_CLIP": 5.0}
    assert type(pars.get()["BiasFrame.process_params.SIGMA_CLIP"]) is float
    assert pars.BiasFrame.process_params.SIGMA_CLIP == 5.0
    pars.show()
    assert capsys.readouterr().out == SHOWN.replace("SIGMA_CLIP: 3.0", "SIGMA_CLIP: 5.0")


def test_a_default_that_is_set_on_purpose_counts_as_changed():
    pars = Pars(CATALOGUE, "Bias", "NICKEL")
    pars.BiasFrame.process_params.MAXIMUM_ABS_MEAN = 10.0
    assert pars.get() == {"BiasFrame.process_params.MAXIMUM_ABS_MEAN": 10.0}


def test_the_tab_key_finds_members():
    pars = Pars(CATALOGUE, "Bias")
    assert dir(pars) == ["BiasFrame", "get", "show"]
    assert dir(pars.BiasFrame.process_params) == ["MAXIMUM_ABS_MEAN", "SIGMA_CLIP"]
    assert not hasattr(pars, "_repr_html_")


def sigma_clip(pars: Pars, value: object) -> None:
    pars.BiasFrame.process_params.SIGMA_CLIP = value


def misspelt(pars: Pars) -> None:
    pars.BiasFrame.process_params.SIGMA_CLP = 5.0


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        (
            misspelt,
            UnknownOption,
            (
                "BiasFrame.process_params has no 'SIGMA_CLP' (did you mean 'SIGMA_CLIP'?); "
                "it has MAXIMUM_ABS_MEAN, SIGMA_CLIP"
            ),
        ),
        (
            lambda pars: pars.BiasFram,
            UnknownOption,
            "Pars has no 'BiasFram' (did you mean 'BiasFrame'?); it has BiasFrame",
        ),
        (
            lambda pars: sigma_clip(pars, "five"),
            BadOption,
            "BiasFrame.process_params.SIGMA_CLIP='five': must be a number",
        ),
        (
            lambda pars: sigma_clip(pars, -5),
            BadOption,
            "BiasFrame.process_params.SIGMA_CLIP=-5.0: must be at least 1",
        ),
        (
            lambda pars: setattr(pars.BiasFrame, "process_params", 5),
            BadOption,
            "BiasFrame.process_params is a group: change one of its members, MAXIMUM_ABS_MEAN, SIGMA_CLIP",
        ),
    ],
)
def test_a_wrong_name_or_value_is_one_line_and_changes_nothing(wrong, kind, message):
    pars = Pars(CATALOGUE, "Bias")
    with pytest.raises(kind) as caught:
        wrong(pars)
    assert str(caught.value) == message
    assert pars.get() == {}


def test_something_without_parameters_suggests_the_nearest():
    with pytest.raises(UnknownOption) as caught:
        Pars(CATALOGUE, "BiasFrme")
    assert str(caught.value) == (
        "there are no process parameters of 'BiasFrme' (did you mean 'BiasFrame'?); "
        "there are some of Bias, Bias>HotPixels, BiasFrame, HotPixelMap"
    )
    with pytest.raises(BadOption, match=r"Pars\(3\): must be a product class"):
        Pars(CATALOGUE, 3)
