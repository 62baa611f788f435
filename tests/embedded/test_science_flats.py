"""The bars of the flats at quarter size, on nights on which something went wrong, and on a real one.

Every figure is printed with what noise predicts for it (`pytest -rP` shows those that held, too). Nothing here is
adapted to a seed, a chip or a size: docs/reference/science-tests.md lists the bars.
"""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest

from bars_flats import DOME, FlatBars, FlatNight, a_flat_night
from dpu_recipes.ccd.noise import NoiseModel
from dpu_recipes.ccd.steadiness import likeness
from dpu_recipes.simulate import Night, write_night
from dpu_recipes.simulate.flaw import FLAWS
from dpu_recipes.task import RecipeError
from dpu_recipes.tasks.flat import FlatFlag
from dpu_recipes.tasks.quick_check import QuickCheckFlag
from dpu_recipes.testing import Allowance, assert_at_most, assert_noise
from fakes_instruments import real_data
from fakes_science import INSTRUMENTS, Bench, a_bench


@pytest.fixture(scope="module", params=[(1, "ccd50"), (2, "ccd53"), (3, "ccd56")], ids=lambda item: f"seed{item[0]}")
def night(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FlatNight:
    """Return a night of one chip of the WFI."""
    seed, chip = request.param
    return a_flat_night(tmp_path_factory.mktemp("night"), chip=chip, scale=0.25, seed=seed)


class TestQuarterSize(FlatBars):
    """All bars, on three seeds."""


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bench]:
    """Return a small night of each flaw, and one without, with bias and read noise."""
    made = {}
    for flaw in ("", *FLAWS):
        folder = tmp_path_factory.mktemp("night")
        wfi = INSTRUMENTS.get("WFI")
        night = Night(instrument=wfi, chips=("ccd51",), scale=1 / 8, biases=3, domes=5, twilights=3, flaw=flaw)
        truth = write_night(night, folder / "simulated")
        made[flaw] = a_bench(folder, "WFI", truth.night, sorted((folder / "simulated" / "raw").iterdir()))
        made[flaw].run("ReadNoise")
        made[flaw].run("Bias")
        measure_gain(made[flaw], truth.chips["ccd51"]["gain"])
    return made


@pytest.fixture(scope="module")
def skies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bench]:
    """Return a small night of each flaw with three science frames, with bias and read noise."""
    made = {}
    for flaw in ("shutter", "saturated", "filter", "mode"):
        folder = tmp_path_factory.mktemp("night")
        wfi = INSTRUMENTS.get("WFI")
        night = Night(instrument=wfi, chips=("ccd51",), scale=1 / 16, biases=3, sciences=3, flaw=flaw)
        truth = write_night(night, folder / "simulated")
        made[flaw] = a_bench(folder, "WFI", truth.night, sorted((folder / "simulated" / "raw").iterdir()))
        made[flaw].run("ReadNoise")
        made[flaw].run("Bias")
    return made


def measure_gain(bench: Bench, gain: float) -> None:
    """Put the true gain into the archive as the recipe for it would."""
    (noise,) = bench.products("ReadNoise")
    values = {"GAIN": gain}
    bench.archive.save(noise.evolve(id="", frame_class="GainLinearity", values=values, file_name=""))


REFUSED = {
    "shutter": "its level of 0 ADU is below MIN_FLAT_MEAN 20000",
    "saturated": "it is saturated",
    "filter": "too few of filter #843",
    "mode": "too few of filter #842, read-out mode 1x1 256x512 SPEED=other",
}


@pytest.mark.parametrize("recipe", ["DomeFlat", "TwilightFlat"])
@pytest.mark.parametrize("flaw", REFUSED)
def test_a_flat_that_went_wrong_is_left_out_by_name(
    nights: dict[str, Bench], flaw: str, recipe: str, caplog: pytest.LogCaptureFixture
) -> None:
    raw = "RawDomeFlatFrame" if recipe == "DomeFlat" else "RawTwilightFlatFrame"
    bad = nights[flaw].products(raw)[-1]
    with caplog.at_level(logging.WARNING):
        if recipe == "DomeFlat":
            (made,) = nights[flaw].run(recipe)
            assert (made.values["NCOMBINE"], made.quality_flags) == (4, 0)
            assert bad.id not in made.inputs
            assert f"leaves out {bad.file_name}: {REFUSED[flaw]}" in caplog.text
        else:
            # Of three flats, two are left.
            with pytest.raises(
                RecipeError, match=r"needs at least 3 (good )?frames|of different (filters|read-out modes)"
            ):
                nights[flaw].run(recipe)


@pytest.mark.parametrize(("flaw", "reason"), [("filter", "different filters"), ("mode", "different read-out modes")])
def test_flats_that_do_not_go_together_are_refused_where_they_are_named(
    nights: dict[str, Bench], flaw: str, reason: str
) -> None:
    names = [frame.file_name for frame in nights[flaw].products(DOME)]
    with pytest.raises(RecipeError, match=reason):
        nights[flaw].run("DomeFlat", raw_filenames=names)


@pytest.mark.parametrize(
    ("flaw", "reason"),
    [
        ("shutter", "its level of -?0 ADU above the bias is no light"),
        ("saturated", "it is saturated"),
        ("filter", "no flat of filter '#843'"),
        ("mode", "too few of read-out mode"),
    ],
)
def test_a_gain_leaves_out_by_name_a_flat_that_went_wrong(
    nights: dict[str, Bench], flaw: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad = nights[flaw].products(DOME)[-1]
    (made,) = nights[flaw].run("Gain")
    assert bad.id not in made.inputs
    assert (made.values["NPAIRS"], made.quality_flags) == (2, 0)
    assert re.search(rf"leaves out {re.escape(bad.file_name)}: .*{reason}", caplog.text)


def test_a_gain_refuses_the_flats_of_a_flickering_lamp(nights: dict[str, Bench]) -> None:
    with pytest.raises(RecipeError, match=r"of 5 frames no two go together: .* % off the"):
        nights["flicker"].run("Gain")


@pytest.mark.parametrize(
    ("flaw", "reason"),
    [
        ("shutter", "is below MIN_FLAT_MEAN 200"),
        ("saturated", "it is saturated"),
        ("filter", "#843"),
        ("mode", "other"),
    ],
)
def test_a_night_sky_flat_refuses_what_too_few_good_frames_leave(
    skies: dict[str, Bench], flaw: str, reason: str
) -> None:
    bad = skies[flaw].products("RawScienceFrame")[-1]
    with pytest.raises(RecipeError) as error:
        skies[flaw].run("NightSkyFlat")
    assert bad.file_name in str(error.value)
    assert reason in str(error.value)


def test_a_flickering_lamp_flags_the_dome_flat(nights: dict[str, Bench]) -> None:
    (good,), (bad,) = nights[""].run("DomeFlat"), nights["flicker"].run("DomeFlat")
    assert_at_most("row scatter of a steady lamp", float(good.values["ROW_SCATTER"]), 1.3)
    assert good.quality_flags == 0
    assert bad.quality_flags & FlatFlag.MAXIMUM_ROW_SCATTER


def test_a_quick_check_passes_a_good_flat_and_meets_the_shot_noise(nights: dict[str, Bench]) -> None:
    (made,) = nights[""].run("QuickCheck")
    assert made.quality_flags == 0
    # The largest of 15 windows of 10,000 pixels, each known to 0.7 %.
    assert_noise("scatter in a window", float(made.values["SCATTER"]), Allowance(error=1.0, times=1.1))
    assert_noise("row to row", float(made.values["ROW_SCATTER"]), Allowance(error=1.0, times=1.5))


def test_a_quick_check_flags_a_flickering_lamp(nights: dict[str, Bench]) -> None:
    (made,) = nights["flicker"].run("QuickCheck")
    assert made.quality_flags & QuickCheckFlag.MAXIMUM_ROW_SCATTER


def test_a_quick_check_flags_a_lamp_that_grew_dim(nights: dict[str, Bench]) -> None:
    names = [frame.file_name for frame in nights["flicker"].products(DOME)]
    pars = {f"QuickCheckFrame.process_params.{name}": 1000 for name in ("MAXIMUM_SCATTER", "MAXIMUM_ROW_SCATTER")}
    nights["flicker"].run("QuickCheck", raw_filenames=names[:1], pars=pars)
    (dim,) = nights["flicker"].run("QuickCheck", raw_filenames=names[1:2], pars=pars)
    assert dim.values["LEVEL_DIFFERENCE"] == pytest.approx(0.2, abs=0.03)
    assert dim.quality_flags == QuickCheckFlag.MAXIMUM_LEVEL_DIFFERENCE


def test_a_quick_check_refuses_a_flat_without_light(nights: dict[str, Bench]) -> None:
    dark = nights["shutter"].products(DOME)[-1]
    with pytest.raises(RecipeError, match=rf"{dark.file_name} has no light: its level is .* was the shutter closed"):
        nights["shutter"].run("QuickCheck", raw_filenames=[dark.file_name])


def test_a_quick_check_refuses_a_saturated_flat(nights: dict[str, Bench]) -> None:
    bright = nights["saturated"].products(DOME)[-1]
    with pytest.raises(RecipeError, match="it is saturated"):
        nights["saturated"].run("QuickCheck", raw_filenames=[bright.file_name])


@pytest.fixture(scope="module")
def nickel(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Return biases and twilight flats of a real night at the Nickel telescope, with bias and read noise."""
    files = sorted(real_data("nickel_20240513").glob("d10[013]?.fits.fz"))
    assert len(files) == 13
    bench = a_bench(tmp_path_factory.mktemp("nickel"), "NICKEL", "2024-05-12", files)
    bench.run("ReadNoise")
    bench.run("Bias")
    return bench


def test_the_real_twilight_flats_are_accepted(nickel: Bench) -> None:
    (made,) = nickel.run("TwilightFlat")
    print({name: made.values[name] for name in ("LEVEL_LOW", "LEVEL_HIGH", "REJECTED", "ROW_SCATTER", "NOISE")})
    assert (made.filter, made.overscan, made.values["NCOMBINE"], made.quality_flags) == ("V", 10, 3, 0)


def test_hot_columns_and_other_real_defects_flag_no_product(nickel: Bench) -> None:
    if not nickel.products("TwilightFlatFrame"):
        nickel.run("TwilightFlat")
    # This telescope has no lamp.
    made = [nickel.run(recipe, **options)[0] for recipe, options in (("HotPixels", {}), ("ColdPixels", {}))]
    made += nickel.run("MasterFlat", combine=3)
    made += [nickel.products(name)[0] for name in ("ReadNoise", "BiasFrame", "TwilightFlatFrame")]
    print({frame.frame_class: frame.values.get("COUNT") for frame in made})
    assert {frame.frame_class: frame.quality_flags for frame in made} == dict.fromkeys(
        (frame.frame_class for frame in made), 0
    )
    hot = nickel.pixels(made[0]) == 0
    assert (hot.mean(axis=0) > 0.5).sum() >= 1, "the hot columns of this CCD are there"


def test_real_twilight_flats_pass_as_steady(nickel: Bench) -> None:
    (bias,) = nickel.products("BiasFrame")
    data = np.s_[:, :1024]
    flats = []
    for frame in nickel.products("RawTwilightFlatFrame"):
        raw = nickel.pixels(frame).astype(np.float32)
        flats.append(raw[data] - raw[:, 1030:].mean(axis=1, keepdims=True) - nickel.pixels(bias))
    found = likeness(flats[1], flats[2], NoiseModel(gain=1.79, read_noise=5.31))
    print(found)
    assert_at_most("row to row", found.rows, 1.5)
