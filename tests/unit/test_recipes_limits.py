"""Every limit of every recipe, as it is by default: frames that go beyond it give its quality flag and a line."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from dpu_recipes import registry
from fakes_recipes import NOISE, SHAPE, STRIPS, Night

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dpu_recipes.frames import Frame

    #: Adds frames to a night and returns how the recipe is called for them.
    Case = Callable[[Night], dict[str, Any]]

BLUE, GAIN = "#842", 2.0
DATA = (slice(0, 128), slice(8, 104))
LARGE = (1200, 1200)
RANDOM = np.random.default_rng(3)
Y, X = np.mgrid[:128, :96]
LEVELS = (4_000.0, 8_000.0, 12_000.0, 16_000.0, 20_000.0, 24_000.0)


@pytest.fixture(autouse=True)
def _same_noise_whatever_ran_before() -> None:
    RANDOM.bit_generator.state = np.random.default_rng(3).bit_generator.state


def raw(night: Night, frame_class: str, data: Any, *, noise: float = NOISE, **changes: Any) -> Frame:
    """Add a raw frame whose data have `data` more than its strips."""
    image = RANDOM.normal(300.0, noise, SHAPE)
    image[DATA] += data
    whole = np.rint(image).astype(np.uint16 if image.max() < 65_536 else np.float32)
    lit = {} if frame_class == "RawBiasFrame" else {"filter": BLUE, "exptime": 10.0}
    values = {**STRIPS.to_values(), "GAIN": GAIN}
    return night.bias(image=whole, **{"frame_class": frame_class, "values": values, **lit, **changes})


def photons(light: Any, gain: float = GAIN) -> np.ndarray:
    """Return light with its noise, ADU."""
    return RANDOM.poisson(np.broadcast_to(light, (128, 96)) * gain) / gain


def named(frames: list[Frame]) -> dict[str, Any]:
    return {"raw_filenames": [frame.file_name for frame in frames]}


def biases(night: Night, data: Any = 0.0, count: int = 3, **changes: Any) -> dict[str, Any]:
    return named([raw(night, "RawBiasFrame", data, **changes) for _ in range(count)])


def debiased(night: Night) -> None:
    biases(night)
    night.run("ReadNoise")
    night.run("Bias")


def flats(night: Night, frame_class: str, lights: list[Any]) -> dict[str, Any]:
    return named([raw(night, frame_class, photons(light)) for light in lights])


def flickering(place: int) -> np.ndarray:
    return 25_000.0 * (1 + 0.02 * np.sin(Y / 3 + place))


def struck(value: float, part: float = 0.1) -> np.ndarray:
    return value * (RANDOM.uniform(size=(128, 96)) < part)


def dented(place: int) -> np.ndarray:
    """Return a sky with holes, which no source makes, but in the first exposure."""
    return photons(3_000.0) - (struck(900.0) if place else 0)


def product(night: Night, frame_class: str, image: np.ndarray, **changes: Any) -> Frame:
    """Add a product as a recipe would have made it."""
    record = night.bias(**{"filter": BLUE, "overscan": 6, **changes})
    valid = {
        "timestamp_start": record.date_obs - timedelta(days=3),
        "timestamp_end": record.date_obs + timedelta(days=3),
    }
    return night.add(record.evolve(id="", frame_class=frame_class, values={}, **valid), image.astype(np.float32))


def read_noise(levels: tuple[float, float] = (300.0, 300.0), noise: float = NOISE, *, before: bool = False) -> Case:
    def case(night: Night) -> dict[str, Any]:
        if before:
            biases(night, count=2)
            night.run("ReadNoise")
        images = [np.rint(RANDOM.normal(level, noise, SHAPE)).astype(np.uint16) for level in levels]
        return named([night.bias(image=image) for image in images])

    return case


def bias(data: Any, *, before: bool = False) -> Case:
    def case(night: Night) -> dict[str, Any]:
        biases(night)
        night.run("ReadNoise")
        if before:
            night.run("Bias")
        return biases(night, data)

    return case


def hot(count: int, *, before: bool = False) -> Case:
    def case(night: Night) -> dict[str, Any]:
        image = RANDOM.normal(0, 1.0, LARGE)
        if before:
            product(night, "BiasFrame", image)
            night.run("HotPixels")
        image.flat[RANDOM.choice(image.size, count, replace=False)] += 1e4
        product(night, "BiasFrame", image)
        return {}

    return case


def cold(count: int, *, before: bool = False) -> Case:
    def case(night: Night) -> dict[str, Any]:
        image = RANDOM.normal(1, 0.01, LARGE)
        if before:
            product(night, "DomeFlatFrame", image)
            night.run("ColdPixels")
        image.flat[RANDOM.choice(image.size, count, replace=False)] *= 0.5
        product(night, "DomeFlatFrame", image)
        return {}

    return case


def flat(frame_class: str, lights: Callable[[], list[Any]]) -> Case:
    def case(night: Night) -> dict[str, Any]:
        debiased(night)
        return flats(night, frame_class, lights())

    return case


def master(*, response: Any = 1.0, bad: float = 0.0, before: bool = False) -> Case:
    def case(night: Night) -> dict[str, Any]:
        product(night, "ColdPixelMap", np.ones((128, 96)))
        product(night, "HotPixelMap", 1 - struck(1.0, bad))
        for image in (np.ones((128, 96)), np.ones((128, 96)) * response)[0 if before else 1 :]:
            product(night, "DomeFlatFrame", image * RANDOM.normal(1, 0.001, image.shape))
            if before and image.std() == 0:
                night.run("MasterFlat", combine=2)
        return {"combine": 2}

    return case


def science(data: Callable[[int], Any], filter_name: str = BLUE) -> Case:
    def case(night: Night) -> dict[str, Any]:
        debiased(night)
        product(night, "MasterFlatFrame", np.ones((128, 96)), filter=filter_name)
        for name in ("HotPixelMap", "ColdPixelMap"):
            product(night, name, np.ones((128, 96)))
        return named([raw(night, "RawScienceFrame", data(place), filter=filter_name) for place in range(4)])

    return case


def gain(
    lights: tuple[float, ...] = LEVELS, *, loss: float = 0.0, odd: float = 0.0, before: bool = False, of: float = GAIN
) -> Case:
    def pair(night: Night, light: float, per_adu: float) -> list[Frame]:
        counted = [photons(light, per_adu) for _ in range(2)]
        counted = [adu * (1 - loss * adu / max(lights)) for adu in counted]
        if light == lights[0]:
            counted[0] = counted[0] + RANDOM.normal(0, odd, counted[0].shape)
        return [raw(night, "RawDomeFlatFrame", adu, exptime=light / 2_000) for adu in counted]

    def case(night: Night) -> dict[str, Any]:
        debiased(night)
        if before:
            night.run("Gain", **named([frame for light in lights for frame in pair(night, light, GAIN)]))
        return named([frame for light in lights for frame in pair(night, light, of)])

    return case


def checked(*lights: Any, before: float = 0.0, saturated: float = 0.0) -> Case:
    def case(night: Night) -> dict[str, Any]:
        debiased(night)
        noise = night.products("ReadNoise")[0]
        night.add(noise.evolve(id="", frame_class="GainLinearity", values={"GAIN": GAIN, "GAIN_ERROR": 0.01}))
        if before:
            night.run("QuickCheck", **flats(night, "RawDomeFlatFrame", [before]))
        full = np.where(struck(1.0, saturated) > 0, 65_000.0, 0.0)
        return named([raw(night, "RawDomeFlatFrame", np.maximum(photons(light), full)) for light in lights])

    return case


DOME, TWILIGHT = "RawDomeFlatFrame", "RawTwilightFlatFrame"
CASES: dict[tuple[str, str], Case] = {
    ("ReadNoise", "MAXIMUM_READNOISE"): read_noise(noise=25.0),
    ("ReadNoise", "MAXIMUM_READNOISE_DIFFERENCE"): read_noise(noise=6.0, before=True),
    ("ReadNoise", "MAXIMUM_BIAS_DIFFERENCE"): read_noise((300.0, 330.0)),
    ("Bias", "MAXIMUM_ABS_MEAN"): bias(15.0),
    ("Bias", "MAXIMUM_STDEV"): bias(np.where(X % 2, 12.0, -12.0)),
    ("Bias", "MAXIMUM_STDEV_DIFFERENCE"): bias(np.where(X % 2, 15.0, -15.0), before=True),
    ("Bias", "MAXIMUM_SUBWIN_FLATNESS"): bias(np.where(Y < 40, 1e6, 0.0)),
    ("Bias", "MAXIMUM_SUBWIN_STDEV"): bias(np.where((Y < 40) & (X % 2 == 1), 1e6, 0.0)),
    ("HotPixels", "MAXIMUM_COUNT"): hot(110_000),
    ("HotPixels", "MAXIMUM_COUNT_DIFFERENCE"): hot(60_000, before=True),
    ("ColdPixels", "MAXIMUM_COUNT"): cold(110_000),
    ("ColdPixels", "MAXIMUM_COUNT_DIFFERENCE"): cold(60_000, before=True),
    ("DomeFlat", "MAXIMUM_REJECTED"): flat(DOME, lambda: [25_000.0] * 3 + [25_000.0 + struck(9_000.0)]),
    ("DomeFlat", "MAXIMUM_ROW_SCATTER"): flat(DOME, lambda: list(map(flickering, range(4)))),
    ("TwilightFlat", "MAXIMUM_REJECTED"): flat(TWILIGHT, lambda: [25_000.0] * 3 + [25_000.0 - struck(9_000.0)]),
    ("TwilightFlat", "MAXIMUM_ROW_SCATTER"): flat(TWILIGHT, lambda: list(map(flickering, range(4)))),
    ("MasterFlat", "MAXIMUM_BAD"): master(bad=0.1),
    ("MasterFlat", "MAXIMUM_STDEV"): master(response=0.5 + X / 95),
    ("MasterFlat", "MAXIMUM_STDEV_DIFFERENCE"): master(response=0.8 + 0.4 * X / 95, before=True),
    ("NightSkyFlat", "MAXIMUM_REJECTED"): science(dented),
    ("FringeFlat", "MAXIMUM_REJECTED"): science(dented, "#846"),
    ("FringeFlat", "MAXIMUM_AMPLITUDE"): science(lambda _: photons(3_000.0 * (1 + 0.4 * np.sin(X + Y / 2))), "#846"),
    ("Gain", "MAXIMUM_GAIN_ERROR"): gain((30.0,)),
    ("Gain", "MAXIMUM_GAIN_DIFFERENCE"): gain(of=2.6, before=True),
    ("Gain", "MAXIMUM_CHI2"): gain(odd=30.0),
    ("Gain", "MAXIMUM_NONLINEARITY"): gain(loss=0.12),
    ("QuickCheck", "MAXIMUM_LEVEL_DIFFERENCE"): checked(26_000.0, before=22_000.0),
    ("QuickCheck", "MAXIMUM_SCATTER"): checked(25_000.0, 25_000.0 + RANDOM.normal(0, 150, (128, 96))),
    ("QuickCheck", "MAXIMUM_SATURATED"): checked(25_000.0, saturated=0.01),
    ("QuickCheck", "MAXIMUM_ROW_SCATTER"): checked(flickering(0), flickering(2)),
}


def test_every_limit_of_every_recipe_is_here() -> None:
    flagged = {(name, flag.name) for name in registry.names() for flag in registry.find(name).flags}
    assert set(CASES) == flagged


@pytest.mark.parametrize(("recipe", "limit"), CASES)
def test_what_goes_beyond_a_limit_is_flagged_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recipe: str, limit: str
) -> None:
    night = Night(tmp_path)
    asked = CASES[recipe, limit](night)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "dpu_recipes"):
        (made,) = night.run(recipe, **asked)
    flags = registry.find(recipe).flags
    assert made.quality_flags & flags[limit], (flags(made.quality_flags), made.limits)
    held = made.limits[limit]
    assert abs(held["measured"]) > held["limit"]
    said = [record.getMessage() for record in caplog.records if f"is beyond {limit} " in record.getMessage()]
    assert said == [f"Quality : {held['measured']:.4g} is beyond {limit} {held['limit']:.4g}; the product is flagged"]
