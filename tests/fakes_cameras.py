"""Cameras that only a TOML file describes, each with a night of two biases and two flats, and what is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest

from dpu_recipes import registry
from dpu_recipes.archive import Selection
from dpu_recipes.archive_folder import FolderArchive
from dpu_recipes.instruments import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: At the end of each camera's file: a night of two and two is enough.
MINIMA: Final = "\n[minima]\nBiasFrame = 2\nDomeFlatFrame = 2\n"
#: ADU, and ADU a second: of a flat.
LIGHT, RATE = 25_000.0, 5_000.0
RECIPES: Final = ("ReadNoise", "Bias", "HotPixels", "Gain", "DomeFlat", "ColdPixels", "MasterFlat", "QuickCheck")


@dataclass(frozen=True)
class Camera:
    """A camera as its file says, and as its frames are."""

    name: str
    toml: str
    night: str
    filter: str
    overscan: int
    read_noise: float
    #: By chip, as the photons are counted.
    gains: dict[str, float]
    #: Writes an exposure of a number and of so much light, 0 for a bias.
    write: Callable[[Path, int, float], None]
    suffix: str = ".fits"


def signal(number: int, shape: tuple[int, int], gain: float, light: float) -> np.ndarray:
    """Return the photons of one exposure, ADU."""
    return np.random.default_rng(number).poisson(light * gain, shape) / gain


def noise(number: int, shape: tuple[int, int], read_noise: float) -> np.ndarray:
    """Return a level with read noise, ADU."""
    return np.random.default_rng(100 + number).normal(300.0, read_noise, shape)


def reduce_night(camera: Camera, folder: Path) -> None:
    """Run every calibration over a night of a camera, and hold what is made to what the camera is."""
    (folder / "instruments").mkdir()
    (folder / "instruments" / "strange.toml").write_text(camera.toml + MINIMA)
    known = load(folder / "instruments")
    archive = FolderArchive(folder / "archive", known)
    for number, light in enumerate((0.0, 0.0, LIGHT, LIGHT), start=1):
        file = folder / f"frame{number}{camera.suffix}"
        camera.write(file, number, light)
        archive.ingest(file)
    night = Selection(instrument=camera.name, night=camera.night)
    for recipe in RECIPES:
        options = {"instrument": camera.name, "date": camera.night} | ({"combine": 2} if recipe == "MasterFlat" else {})
        for spec in registry.plan(recipe, options, archive, folder, known):
            scratch = folder / f"{recipe} {spec.label}"
            scratch.mkdir()
            registry.run(recipe, options, archive, scratch, spec, known=known)
        made = archive.select(registry.find(recipe).makes, night)
        assert {frame.chip: frame.quality_flags for frame in made} == dict.fromkeys(camera.gains, 0), recipe
    for frame in archive.select("ReadNoise", night):
        # Two frames of at least 35,200 pixels: the relative error of an rms is 1/sqrt(2 n), 0.4 %.
        assert frame.values["READNOISE"] == pytest.approx(np.hypot(camera.read_noise, 12**-0.5), rel=0.016)
    for frame in archive.select("GainLinearity", night):
        assert abs(frame.values["GAIN"] - camera.gains[frame.chip]) < 4 * frame.values["GAIN_ERROR"]
    for frame in archive.select("DomeFlatFrame", night):
        assert (frame.filter, frame.overscan, frame.values["NCOMBINE"]) == (camera.filter, camera.overscan, 2)
