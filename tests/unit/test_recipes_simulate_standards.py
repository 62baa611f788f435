"""The simulator's standard field: Landolt's stars are where they are, as bright as they are, through as much air."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits

from dpu_recipes import reference_file
from dpu_recipes.exposure import split
from dpu_recipes.instruments import load
from dpu_recipes.reference import SHIPPED
from dpu_recipes.simulate import Night, Truth, write_night
from dpu_recipes.simulate.detector import WELL
from dpu_recipes.simulate.standards import EXTINCTION, SECONDS, ZERO_POINT

if TYPE_CHECKING:
    from pathlib import Path

CHIPS = ("ccd51", "ccd52", "ccd55", "ccd56")
#: Pixels: of a star's light all but a per cent, and where the sky is measured.
APERTURE, SKY = 12, 20


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    asked = Night(instrument=load().get("WFI"), chips=CHIPS, scale=1 / 4, biases=0, standards=2)
    return write_night(asked, tmp_path_factory.mktemp("standards") / "night")


def raw(night: Truth, exposure: int) -> Path:
    return night.folder / "raw" / f"WFI.{night.exposures[exposure].started()}.fits"


def rates(night: Truth, exposure: int) -> dict[str, float]:
    """Return the light of standards that are whole and not full on their chips, ADU a second, by name."""
    listed = reference_file.read(SHIPPED["LANDOLT"], {})
    found: dict[str, float] = {}
    for chip in CHIPS:
        detector, optics = night.detector(chip), night.optics(chip)
        with fits.open(raw(night, exposure)) as units:
            light = units[chip].data[detector.layout.regions.data] / detector.flat
        y, x = optics.pixels(
            np.asarray(listed["RA"], float), np.asarray(listed["DEC"], float), night.exposures[exposure].pointing
        )
        rows, columns = np.ogrid[: light.shape[0], : light.shape[1]]
        for name, down, along in zip(listed["NAME"], y, x, strict=True):
            if SKY < down < light.shape[0] - SKY and SKY < along < light.shape[1] - SKY:
                distance = np.hypot(rows - down, columns - along)
                sky = np.median(light[(distance > APERTURE) & (distance < SKY)])
                if light[distance < 2].max() < WELL / 2:
                    found[str(name)] = float((light[distance < APERTURE] - sky).sum() / SECONDS)
    return found


def test_standards_are_as_bright_as_landolt_says_through_the_air_between(night: Truth) -> None:
    listed = reference_file.read(SHIPPED["LANDOLT"], {})
    magnitudes = dict(zip(map(str, listed["NAME"]), listed["V"], strict=True))
    for number, airmass in enumerate((1.1, 1.9)):
        assert night.exposures[number].airmass == pytest.approx(airmass)
        measured = {name: rate for name, rate in rates(night, number).items() if magnitudes[name] < 16}
        off = [
            -2.5 * np.log10(rate) + ZERO_POINT - EXTINCTION * airmass - magnitudes[name]
            for name, rate in measured.items()
        ]
        print(f"{len(off)} standards at airmass {airmass}: off by {np.median(off):.3f} mag, {np.std(off):.3f} rms")
        assert len(off) >= 5
        # An aperture of 12 pixels loses 0.9 % of Moffat's profile.
        assert abs(np.median(off) - 0.010) < 0.01


def test_standards_are_ingested_as_such_with_place_and_airmass(night: Truth, tmp_path: Path) -> None:
    first = split(raw(night, 0), "first.fits", load(), tmp_path)[0][0]
    assert (first.frame_class, first.object, first.values["AIRMASS"]) == (
        "RawStandardFrame",
        "SA98",
        pytest.approx(1.1),
    )
    assert (first.values["RA"], first.values["DEC"]) == pytest.approx((103.02, -0.33), abs=0.02)


def test_the_truth_of_the_standard_field_is_read_back(night: Truth) -> None:
    listed = reference_file.read(SHIPPED["LANDOLT"], {})
    field = night.standard_field()
    np.testing.assert_allclose(field.flux[-len(listed) :], 10 ** (-0.4 * (listed["V"].astype(float) - ZERO_POINT)))
    with pytest.raises(FileNotFoundError):
        night.field()
