import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from google.protobuf.json_format import Parse

import dpu_recipes
from dpu.values import from_map, from_value
from dpu_api.v1.catalogue_pb2 import Catalogue, OptionKind
from dpu_recipes import registry
from dpu_recipes.__main__ import main
from dpu_recipes.describe import describe
from dpu_recipes.sequences import OPTIONS, SEQUENCES
from dpu_recipes.task import Recipe

DOCS = Path(__file__).parents[2] / "docs" / "reference"


def catalogue() -> Catalogue:
    return Parse(describe(), Catalogue())


def test_the_catalogue_accepts_what_it_prints():
    found = catalogue()
    assert found.version == dpu_recipes.__version__
    assert [sequence.name for sequence in found.sequences] == [sequence.name for sequence in SEQUENCES]
    assert all(sequence.summary and "\n" not in sequence.summary for sequence in found.sequences)


def test_options_keep_their_order_kinds_and_defaults():
    hot_pixels = catalogue().sequences[0]
    assert [
        (option.short_name, option.long_name, OptionKind.Name(option.kind), from_value(option.default))
        for option in hot_pixels.options
        if not option.unlisted
    ] == [
        ("i", "instrument", "OPTION_KIND_TEXT", ""),
        ("d", "date", "OPTION_KIND_DATE", ""),
        ("c", "chip", "OPTION_KIND_TEXT", ""),
        ("p", "pars", "OPTION_KIND_PARAMETERS", {}),
        ("C", "commit", "OPTION_KIND_FLAG", 0),
    ]
    assert list(hot_pixels.one_of) == ["date"]


def test_every_sequence_can_be_forced_and_go_deep_and_shows_no_option_for_it():
    for sequence in catalogue().sequences:
        unlisted = [option.long_name for option in sequence.options if option.unlisted]
        assert unlisted == ["force", "deep", "targets", "dryrun", "privileges"]


def test_bounds_travel():
    (overscan,) = [option for option in catalogue().sequences[2].options if option.short_name == "oc"]
    assert (overscan.minimum, overscan.maximum) == (0, 10)
    assert not catalogue().sequences[2].options[0].HasField("minimum")


def test_a_stage_says_what_it_needs_and_makes():
    bias = catalogue().sequences[2]
    (stage,) = bias.stages
    assert list(bias.one_of) == ["date", "raw_filenames"]
    assert (stage.recipe, stage.selects, stage.makes, stage.partial) == ("Bias", "RawBiasFrame", "BiasFrame", True)
    assert stage.seconds > 0
    assert stage.memory_mib > 0
    assert from_map(stage.parameters)["BiasFrame.process_params.SIGMA_CLIP"] == 3.0
    bounds = stage.parameter_bounds["BiasFrame.process_params.SIGMA_CLIP"]
    assert (bounds.minimum, bounds.HasField("maximum")) == (1, False)
    assert set(stage.parameter_bounds) == set(stage.parameters.entries)


def test_the_command_prints_the_catalogue_without_any_array_library():
    report = "import sys, dpu_recipes.__main__ as m; m.main(['describe']); "
    report += "print([n for n in ('numpy', 'astropy', 'scipy', 'sep') if n in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(describe())
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("arguments", [["describe", "more"], [], ["checks"]])
def test_anything_else_is_a_usage_error(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert capsys.readouterr().err.startswith("usage: python -m dpu_recipes")


def sequence_rows() -> list[str]:
    return [
        f"| `{sequence.name}` | {sequence.summary} | {', '.join(f'`{o.short}`' for o in sequence.option_list())} "
        f"| {' or '.join(f'`{name}`' for name in sequence.one_of())} | {', '.join(sequence.stages)} |"
        for sequence in SEQUENCES
    ]


def option_rows() -> list[str]:
    return [
        f"| `{o.short}` | `{o.long}` | {o.kind.removeprefix('OPTION_KIND_').lower()} "
        f"| {'' if o.default == '' else f'`{o.default}`'} | {o.help} |"
        for o in OPTIONS.values()
    ]


def parameter_rows(recipe: Recipe) -> list[str]:
    return [
        f"| `{item.name}` | {item.default} | {item.metadata['unit']} | {bounds['minimum']:g} "
        f"| {bounds.get('maximum', '')} | {item.metadata['meaning']} |"
        for item in fields(recipe.parameters)
        if (bounds := item.metadata["bounds"])
    ]


def flag_rows(recipe: Recipe) -> list[str]:
    return [f"| {flag.value} | `{flag.name}` |" for flag in recipe.flags]


def test_the_reference_lists_every_sequence_and_option():
    page = (DOCS / "sequences.md").read_text()
    assert [row for row in [*sequence_rows(), *option_rows()] if row not in page] == []


@pytest.mark.parametrize("name", registry.names())
def test_the_reference_describes_every_recipe(name: str):
    recipe = registry.find(name)
    page = (DOCS / "recipes.md").read_text()
    _, _, section = page.partition(f"\n## {name}\n")
    section = section.partition("\n## ")[0]
    assert f"`{recipe.selects}`" in section
    assert f"`{recipe.makes}`" in section
    assert [row for row in [*parameter_rows(recipe), *flag_rows(recipe)] if row not in section] == []


def test_an_instruments_own_defaults_are_told_apart():
    (bias,) = (item for item in json.loads(describe())["sequences"] if item["name"] == "Bias")
    own = bias["stages"][0]["instrument_parameters"]
    assert own["NICKEL"]["entries"]["BiasFrame.process_params.MAXIMUM_ABS_MEAN"] == {"double_value": 30.0}
    assert "WFI" not in own
