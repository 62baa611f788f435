"""What every recipe refuses: by one line that says why, and nothing is saved."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dpu_recipes.archive import ArchiveError
from dpu_recipes.task import RecipeError
from fakes_recipes import NOISE, SHAPE, STRIPS, Night

if TYPE_CHECKING:
    from dpu_recipes.frames import Frame

BLUE, RED = "#842", "#844"
#: By recipe: what it reads, at least how many, and the light that these should have, ADU.
RAW = {
    "ReadNoise": ("RawBiasFrame", 2, 0.0),
    "Bias": ("RawBiasFrame", 3, 0.0),
    "Gain": ("RawDomeFlatFrame", 2, 20_000.0),
    "DomeFlat": ("RawDomeFlatFrame", 3, 25_000.0),
    "TwilightFlat": ("RawTwilightFlatFrame", 3, 25_000.0),
    "NightSkyFlat": ("RawScienceFrame", 3, 2_000.0),
    "FringeFlat": ("RawScienceFrame", 3, 2_000.0),
    "QuickCheck": ("RawDomeFlatFrame", 2, 25_000.0),
}
LIT = [recipe for recipe, (_, _, light) in RAW.items() if light]
OTHER_SHAPE = (SHAPE[0] + 8, SHAPE[1])


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Return a night with every calibration of one chip, by overscan method 6."""
    made = Night(tmp_path_factory.mktemp("refusals"))
    for raw, count in (("RawBiasFrame", 3), ("RawDomeFlatFrame", 3), ("RawTwilightFlatFrame", 3)):
        for _ in range(count):
            add(made, raw, 0.0 if raw == "RawBiasFrame" else 25_000.0)
    for recipe in ("ReadNoise", "Bias", "HotPixels", "DomeFlat", "ColdPixels", "TwilightFlat", "MasterFlat"):
        assert made.run(recipe), recipe
    return made


def add(night: Night, raw: str, light: float, *, image: np.ndarray | None = None, **changes: object) -> Frame:
    """Add a raw frame of even light with the noise of photons and read-out, or `image`."""
    if image is None:
        shape = SHAPE
        random = np.random.default_rng(len(night.products(raw)))
        falling = np.zeros(shape)
        falling[:128, 8:104] = light
        image = np.rint(random.normal(300.0 + falling, np.hypot(NOISE, np.sqrt(falling / 2)))).astype(np.uint16)
    values = {**STRIPS.to_values(), "GAIN": 2.0}
    known = {"frame_class": raw, "filter": BLUE, "exptime": 10.0 if light else 0.0, "values": values, **changes}
    return night.bias(image=image, **known)


def refused(night: Night, recipe: str, frames: list[Frame], **options: object) -> str:
    """Return the line by which a recipe refuses frames, having saved nothing."""
    makes = {name: len(night.products(name)) for name in ("ReadNoise", "BiasFrame", "DomeFlatFrame", "FringeFrame")}
    with pytest.raises((RecipeError, ArchiveError)) as error:
        night.run(recipe, raw_filenames=[frame.file_name for frame in frames], **options)
    line = str(error.value)
    assert line
    assert "\n" not in line
    assert {name: len(night.products(name)) for name in makes} == makes
    return line


def good(night: Night, recipe: str, count: int | None = None, **changes: object) -> list[Frame]:
    """Return frames that a recipe takes: as many as it needs, or `count`."""
    raw, needed, light = RAW[recipe]
    return [add(night, raw, light, **changes) for _ in range(needed if count is None else count)]


@pytest.mark.parametrize("recipe", [recipe for recipe in RAW if recipe != "QuickCheck"])
def test_too_few_frames(night: Night, recipe: str) -> None:
    frames = good(night, recipe, RAW[recipe][1] - 1)
    line = refused(night, recipe, frames)
    assert f"{recipe} needs at least {RAW[recipe][1]} frames of class {RAW[recipe][0]} of chip ccd50" in line
    assert all(frame.file_name in line for frame in frames)


@pytest.mark.parametrize("recipe", RAW)
def test_mixed_sizes(night: Night, recipe: str) -> None:
    raw, _, light = RAW[recipe]
    larger = add(night, raw, light, image=np.full(OTHER_SHAPE, 25_000, np.uint16))
    line = refused(night, recipe, [*good(night, recipe, RAW[recipe][1] - 1), larger])
    assert "the frames are of different sizes" in line
    assert f"{larger.file_name} (120 x 140)" in line


@pytest.mark.parametrize("recipe", LIT)
def test_mixed_filters(night: Night, recipe: str) -> None:
    red = good(night, recipe, 1, filter=RED)
    line = refused(night, recipe, [*good(night, recipe, RAW[recipe][1] - 1), *red])
    wanted = f"no flat of filter '{BLUE}'" if recipe == "Gain" else "the frames are of different filters"
    assert wanted in line
    assert red[0].file_name in line


@pytest.mark.parametrize("recipe", RAW)
def test_mixed_binning(night: Night, recipe: str) -> None:
    binned = good(night, recipe, 1, readout="2x2")
    line = refused(night, recipe, [*good(night, recipe, RAW[recipe][1] - 1), *binned])
    assert "the frames are of different read-out modes" in line
    assert f"{binned[0].file_name} (2x2)" in line


@pytest.mark.parametrize("recipe", LIT)
def test_a_bias_of_another_overscan_method(night: Night, recipe: str) -> None:
    line = refused(night, recipe, good(night, recipe), overscan=0)
    assert "dpu.run('Bias', i='WFI', d='2000-04-28', oc=0, C=1)" in line
    assert "overscan method 6 instead of 0" in line


@pytest.mark.parametrize("recipe", RAW)
@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.full(SHAPE, 65_000, np.uint16), "it is saturated"),
        (np.zeros(SHAPE, np.uint16), "every pixel is zero"),
        (np.full(SHAPE, np.nan, np.float32), "it has pixels that are not a number"),
    ],
    ids=["saturated", "zero", "nan"],
)
def test_frames_that_are_all_no_good(night: Night, recipe: str, image: np.ndarray, reason: str) -> None:
    frames = good(night, recipe, image=image)
    line = refused(night, recipe, frames)
    assert all(f"{frame.file_name} ({reason})" in line for frame in frames)


@pytest.mark.parametrize("recipe", [recipe for recipe in RAW if recipe != "ReadNoise"])
def test_missing_calibrations(night: Night, recipe: str) -> None:
    line = refused(night, recipe, good(night, recipe, chip="ccd57"))
    first = (
        "Bias" if recipe in {"DomeFlat", "TwilightFlat", "NightSkyFlat", "FringeFlat", "QuickCheck"} else "ReadNoise"
    )
    assert f"dpu.run('{first}', i='WFI', d='2000-04-28'" in line
    assert "(WFI ccd57, night 2000-04-28): there is none at all" in line


def test_fringes_without_a_master_flat(night: Night) -> None:
    line = refused(night, "FringeFlat", good(night, "FringeFlat", filter=RED))
    assert f"dpu.run('MasterFlat', i='WFI', d='2000-04-28', f='{RED}', C=1)" in line


def test_a_master_flat_without_the_night_sky_flat_that_it_should_use(night: Night) -> None:
    with pytest.raises(ArchiveError, match=r"dpu\.run\('NightSkyFlat', i='WFI', d='2000-04-28', f='#842', oc=6, C=1\)"):
        night.run("MasterFlat", pars={"MasterFlatFrame.process_params.NIGHT_SKY": 1})


#: By recipe, what it starts from.
PRODUCTS = {"HotPixels": "BiasFrame", "ColdPixels": "DomeFlatFrame", "MasterFlat": "DomeFlatFrame"}


@pytest.mark.parametrize("recipe", PRODUCTS)
@pytest.mark.parametrize(
    ("value", "reason", "day"),
    [(0.0, "is zero everywhere", 1), (np.nan, "has pixels that are not a number", 2)],
    ids=["zero", "nan"],
)
def test_a_product_that_is_no_good(night: Night, recipe: str, value: float, reason: str, day: int) -> None:
    (source,) = [frame for frame in night.products(PRODUCTS[recipe]) if frame.night == date(2000, 4, 28)]
    another = source.evolve(id="", file_name="", night=date(2000, 5, day))
    bad = night.add(another, np.full((128, 96), value, np.float32))
    with pytest.raises(RecipeError, match=reason) as error:
        night.run(recipe, date=f"2000-05-0{day}")
    assert bad.file_name in str(error.value)
    assert "make another with dpu.run(" in str(error.value)


@pytest.mark.parametrize("recipe", PRODUCTS)
def test_no_product_to_start_from(night: Night, recipe: str) -> None:
    sequence = "Bias" if recipe == "HotPixels" else "DomeFlat"
    with pytest.raises(RecipeError, match=rf"dpu\.run\('{sequence}', i='WFI', d='2000-06-01', C=1\)"):
        night.run(recipe, date="2000-06-01")


@pytest.mark.parametrize("recipe", RAW)
def test_no_frames_at_all(night: Night, recipe: str) -> None:
    with pytest.raises(RecipeError, match=rf"there is no {RAW[recipe][0]} of WFI of night 2000-06-01; `awe ingest`"):
        night.run(recipe, date="2000-06-01")
