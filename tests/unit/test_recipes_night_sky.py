"""Night-sky flats, fringe frames, and the fit of fringes, on small frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from dpu_recipes.ccd.fringe import scaled
from dpu_recipes.ccd.large_scale import large_scale, surface
from dpu_recipes.tasks.fringe_flat import FringeFlag
from dpu_recipes.tasks.night_sky_flat import NightSkyFlatFlag
from fakes_recipes import NOISE, SHAPE, STRIPS, Night

if TYPE_CHECKING:
    from dpu_recipes.frames import Frame

PLAIN, FRINGING = "#842", "#846"
GAIN, SKY, AMPLITUDE = 2.0, 3_000.0, 0.03
Y, X = np.mgrid[:128, :96]
#: Rms 1, seven pixels from one to the next.
PATTERN = np.sqrt(2) * np.cos(2 * np.pi * (0.8 * Y + 0.6 * X) / 7)


def exposed(night: Night, raw: str, light: np.ndarray | float, **changes: object) -> Frame:
    """Add a raw frame of some light with the noise of photons and read-out."""
    random = np.random.default_rng(len(night.products(raw)))
    image = random.normal(300.0, NOISE, SHAPE)
    image[:128, 8:104] += random.poisson(np.broadcast_to(light, (128, 96)) * GAIN) / GAIN
    values = {**STRIPS.to_values(), "GAIN": GAIN}
    known = {"frame_class": raw, "filter": FRINGING, "exptime": 10.0, "values": values, **changes}
    return night.bias(image=np.rint(image).astype(np.uint16), **known)


def sky(night: Night, place: int, *, strength: float = AMPLITUDE, **changes: object) -> Frame:
    """Add a science frame with one star, which is elsewhere in each."""
    light = SKY * (1 + strength * PATTERN)
    light += 20_000 * np.exp(-0.5 * ((Y - 20 - 18 * place) ** 2 + (X - 48) ** 2) / 2.5**2)
    return exposed(night, "RawScienceFrame", light, **changes)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Return a night with a master flat in a filter with fringes, and its science frames."""
    made = Night(tmp_path_factory.mktemp("night"))
    for _ in range(3):
        made.bias()
    for raw in ("RawDomeFlatFrame", "RawTwilightFlatFrame"):
        for _ in range(4):
            exposed(made, raw, 25_000.0)
    for recipe in ("ReadNoise", "Bias", "HotPixels", "DomeFlat", "ColdPixels", "TwilightFlat", "MasterFlat"):
        assert made.run(recipe), recipe
    for place in range(6):
        sky(made, place)
    return made


def test_fringes_are_in_units_of_the_sky_and_have_no_mean(night: Night) -> None:
    (made,) = night.run("FringeFlat")
    image = night.image(made)
    assert (image.dtype, image.shape) == (np.dtype(">f4"), (128, 96))
    assert image.mean() == pytest.approx(0, abs=1e-3)
    assert np.polyfit(PATTERN.ravel(), image.ravel(), 1)[0] == pytest.approx(AMPLITUDE, rel=0.03)
    assert made.values["AMPLITUDE"] == pytest.approx(AMPLITUDE, rel=0.05)
    assert (made.filter, made.overscan, made.quality_flags, made.values["NCOMBINE"]) == (FRINGING, 6, 0, 6)
    used = {night.archive.find(identifier).frame_class for identifier in made.inputs}
    assert used == {"RawScienceFrame", "BiasFrame", "ReadNoise", "MasterFlatFrame", "HotPixelMap", "ColdPixelMap"}


def test_stars_leave_nothing_in_fringes(night: Night) -> None:
    (made,) = night.run("FringeFlat", force=1)
    image = night.image(made)
    stars = np.zeros(image.shape, bool)
    for place in range(6):
        stars |= np.hypot(Y - 20 - 18 * place, X - 48) < 6
    off = image - AMPLITUDE * PATTERN
    error = off[~stars].std() / np.sqrt(stars.sum())
    assert abs(off[stars].mean() - off[~stars].mean()) < 4 * error


@pytest.mark.parametrize("name", [flag.name for flag in FringeFlag])
def test_a_limit_that_is_missed_flags_a_fringe_frame(night: Night, name: str) -> None:
    pars = {f"FringeFrame.process_params.{flag.name}": 1 for flag in FringeFlag}
    pars |= {f"FringeFrame.process_params.{name}": 0, "FringeFrame.process_params.SIGMA_CLIP": 2.5}
    (made,) = night.run("FringeFlat", pars=pars)
    assert made.quality_flags == FringeFlag[name]


def test_a_limit_that_is_missed_flags_a_night_sky_flat(night: Night) -> None:
    pars = {f"NightSkyFlatFrame.process_params.{name}": value for name, value in (("MAXIMUM_REJECTED", 0),)}
    (made,) = night.run("NightSkyFlat", pars={**pars, "NightSkyFlatFrame.process_params.SIGMA_CLIP": 2.5})
    assert made.quality_flags == NightSkyFlatFlag.MAXIMUM_REJECTED


def test_science_frames_without_sky_are_left_out_by_name(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    dark = exposed(night, "RawScienceFrame", 50.0, filter=PLAIN)
    for place in range(3):
        sky(night, place, strength=0.0, filter=PLAIN)
    (made,) = night.run("NightSkyFlat", filter=PLAIN)
    assert (made.values["NCOMBINE"], made.values["NREFUSED"], made.quality_flags) == (3, 1, 0)
    assert f"leaves out {dark.file_name}: its level of 50 ADU is below MIN_FLAT_MEAN 200" in caplog.text
    assert night.image(made).mean() == pytest.approx(1, abs=1e-3)


def test_a_scale_is_what_the_fringes_are_multiplied_by() -> None:
    random = np.random.default_rng(5)
    fringe = (0.02 * PATTERN).astype(np.float32)
    image = (90 * PATTERN + random.normal(0, 40, PATTERN.shape) + 7).astype(np.float32)
    image[10:20, 10:20] += 5_000
    good = np.ones(image.shape, bool)
    found = scaled(image, fringe, good=good, between=(0.5, 5.0), threshold=3.0)
    assert found.scale == pytest.approx(90 / 0.02, abs=4 * found.error)
    assert found.error == pytest.approx(40 / (0.02 * 1.1 * np.sqrt(found.count)), rel=0.1)


def test_pixels_that_are_not_good_do_not_tell_of_fringes() -> None:
    fringe = (0.02 * PATTERN).astype(np.float32)
    good = Y < 64
    image = np.where(good, 4_500 * fringe, -9_000 * fringe).astype(np.float32)
    found = scaled(image, fringe, good=good, between=(0.5, 5.0), threshold=3.0)
    assert found.scale == pytest.approx(4_500, rel=1e-4)


def test_no_fringes_have_no_scale() -> None:
    flat = np.zeros((20, 20), np.float32)
    with pytest.raises(ValueError, match="no pixel tells of fringes"):
        scaled(flat, flat, good=flat == 0, between=(0.5, 5.0), threshold=3.0)


def test_rows_of_a_surface_are_those_of_the_whole() -> None:
    image = (1 + 0.1 * np.sin(Y / 40) + 0.05 * np.cos(X / 30)).astype(np.float32)
    good = (Y + X) % 7 > 0
    whole = large_scale(image, good=good, mesh=32)
    found = surface(lambda start, stop: (image[start:stop], good[start:stop]), image.shape, mesh=32)
    np.testing.assert_array_equal(np.concatenate([found.rows(0, 50), found.rows(50, 128)]), whole)
    assert np.abs(whole - image).max() < 0.03
