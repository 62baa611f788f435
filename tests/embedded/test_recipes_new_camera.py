"""A camera that only a TOML file describes: the one of docs/reference/instruments.md."""

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dpu_recipes import registry
from dpu_recipes.archive import Selection
from dpu_recipes.archive_folder import FolderArchive
from dpu_recipes.instruments import Instruments, load

READ_NOISE = 4.0
DATA, PRESCAN, OVERSCAN = 256, 16, 24
#: As the file says.
GAINS = {"left": 1.9, "right": 2.1}


@pytest.fixture
def known(tmp_path: Path) -> Instruments:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "instruments.md").read_text()
    (camera,) = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "mycam.toml").write_text(camera)
    return load(tmp_path)


def write(path: Path, number: int, light: float = 0.0) -> Path:
    """Write an exposure of some light, ADU: a bias without, else a dome flat."""
    generator = np.random.default_rng(number)
    kind = "flat dome" if light else "zero"
    primary = fits.PrimaryHDU()
    primary.header.update({"INSTRUME": "MYCAM2", "DATE-OBS": f"2024-05-12T18:0{number}:00.5", "EXPTIME": light / 5000})
    primary.header.update({"IMAGETYP": kind, "GAINMODE": "high", "SPEED": 100, "OBJECT": kind, "FILTERS": "V"})
    units = [primary]
    for amplifier, gain in ((1, GAINS["left"]), (2, GAINS["right"])):
        level = generator.normal(300.0, READ_NOISE, (DATA, PRESCAN + DATA + OVERSCAN))
        level[:, PRESCAN : PRESCAN + DATA] += generator.poisson(light * gain, (DATA, DATA)) / gain
        units.append(fits.ImageHDU(np.rint(level).astype(np.uint16), name=f"AMP{amplifier}"))
    units.append(fits.ImageHDU(np.zeros((4, 4), np.uint8), name="BAD_MASK"))
    fits.HDUList(units).writeto(path)
    return path


def test_a_camera_that_only_a_toml_describes_reduces_two_biases_and_two_flats(
    tmp_path: Path, known: Instruments
) -> None:
    archive = FolderArchive(tmp_path / "archive", known)
    for number, light in enumerate((0.0, 0.0, 25_000.0, 25_000.0), start=1):
        archive.ingest(write(tmp_path / f"b{number}.fits", number, light))
    for recipe in ("ReadNoise", "Bias", "HotPixels", "Gain", "DomeFlat", "ColdPixels", "MasterFlat", "QuickCheck"):
        options = {"instrument": "MYCAM", "date": "2024-05-12"} | ({"combine": 2} if recipe == "MasterFlat" else {})
        specs = registry.plan(recipe, options, archive, tmp_path, known)
        assert [spec.label for spec in specs] == ["left", "right"]
        for spec in specs:
            scratch = tmp_path / f"{recipe}-{spec.label}"
            scratch.mkdir()
            registry.run(recipe, options, archive, scratch, spec, known=known)
    night = Selection(instrument="MYCAM", night="2024-05-12")
    # Two frames of so many pixels: the relative error of an rms is 1/sqrt(2 n).
    expected, error = np.sqrt(READ_NOISE**2 + 1 / 12), READ_NOISE / np.sqrt(2) / DATA
    for made in archive.select("ReadNoise", night):
        assert abs(made.values["READNOISE"] - expected) < 4 * error, (made.values, expected, error)
    biases = archive.select("BiasFrame", night)
    assert [(made.chip, made.overscan, made.quality_flags, made.values["NCOMBINE"]) for made in biases] == [
        ("left", 6, 0, 2),
        ("right", 6, 0, 2),
    ]
    for made in archive.select("GainLinearity", night):
        # One pair, and what noise leaves of it.
        assert abs(made.values["GAIN"] - GAINS[made.chip]) < 4 * made.values["GAIN_ERROR"], made.values
    flats = archive.select("DomeFlatFrame", night)
    assert [(made.chip, made.filter, made.quality_flags, made.values["NCOMBINE"]) for made in flats] == [
        ("left", "V", 0, 2),
        ("right", "V", 0, 2),
    ]
    for makes in ("HotPixelMap", "ColdPixelMap", "MasterFlatFrame", "QuickCheckFrame"):
        assert [(made.chip, made.quality_flags) for made in archive.select(makes, night)] == [("left", 0), ("right", 0)]
