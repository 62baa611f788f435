"""The simulator's science exposures: stars, galaxies, fringes, trails and full pixels are where the truth says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from dpu_recipes.frames import Strips
from dpu_recipes.instruments import load
from dpu_recipes.simulate import Layout, Night, Truth, write_night
from dpu_recipes.simulate.cards import of_sky
from dpu_recipes.simulate.detector import bled
from dpu_recipes.simulate.draw import detector as drawn
from dpu_recipes.simulate.exposure import Exposure
from dpu_recipes.simulate.field import Field, deprojected, projected
from dpu_recipes.simulate.galaxies import Galaxies, Shape
from dpu_recipes.simulate.optics import Optics
from dpu_recipes.simulate.scene import seen
from dpu_recipes.simulate.stars import PEAK_FLUX, Stars
from dpu_recipes.simulate.tracks import Tracks, thrown

if TYPE_CHECKING:
    from pathlib import Path

ONE = np.ones(1, np.float32)
CHIPS = ("ccd50", "ccd54")


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    asked = Night(
        instrument=load().get("WFI"), chips=CHIPS, scale=1 / 8, biases=0, sciences=3, fringes=0.02, filter="#846"
    )
    return write_night(asked, tmp_path_factory.mktemp("sky") / "night")


def image(truth: Truth, chip: str, exposure: int) -> tuple[np.ndarray, fits.Header]:
    """Return the pixels that see light in a frame, less its level, and its header."""
    file = truth.folder / "raw" / f"WFI.{truth.exposures[exposure].started()}.fits"
    with fits.open(file) as units:
        detector = truth.detector(chip)
        light = units[chip].data[detector.layout.regions.data].astype(float)
        return light - detector.level - truth.chips[chip]["drift"][exposure], units[chip].header


@pytest.mark.parametrize("centre", [(53.1, -27.8), (0.01, 89.0), (359.99, 0.0)])
def test_a_place_is_projected_to_and_fro(centre: tuple[float, float]) -> None:
    east, north = np.array([0.0, 0.3, -0.4]), np.array([0.0, -0.2, 0.5])
    found = projected(*deprojected(east, north, centre), centre)
    np.testing.assert_allclose(found, (east, north), atol=1e-12)


@pytest.mark.parametrize(("camera", "chip"), [("WFI", "ccd54"), ("WFC", "CCD2"), ("WFC", "CCD3")])
def test_optics_without_faults_are_what_the_header_says(camera: str, chip: str) -> None:
    asked = Night(instrument=load().get(camera), chips=(chip,), scale=1 / 8, biases=0, sciences=1)
    plain = replace(asked.optics(chip), distortion=0.0, turn=0.0, shift=(0.0, 0.0))
    field, (exposure,) = asked.field(), asked.exposures()
    near = np.hypot(*projected(field.ra, field.dec, exposure.pointing)) < 0.2
    y, x = plain.pixels(field.ra[near], field.dec[near], exposure.header_pointing)
    header = of_sky(exposure, asked.optics(chip), asked.layout)
    by_header = WCS(header).wcs_world2pix(field.ra[near], field.dec[near], 0)
    np.testing.assert_allclose(by_header, (x + asked.layout.strips.prescan_x, y), atol=1e-6)


def test_a_header_does_not_know_where_the_telescope_points_nor_its_distortion(night: Truth) -> None:
    field = night.field()
    for number, exposure in enumerate(night.exposures):
        off = np.subtract(exposure.pointing, exposure.header_pointing) * 3600
        assert 0 < np.hypot(*off) < 12
        _, header = image(night, "ccd50", number)
        y, x = night.optics("ccd50").pixels(field.ra, field.dec, exposure.pointing)
        here = (y > 0) & (y < 512) & (x > 0) & (x < 256)
        along, up = WCS(header).wcs_world2pix(field.ra[here], field.dec[here], 0)
        assert np.median(np.hypot(along - 48 - x[here], up - y[here])) > 1
    assert 0.5e-3 < night.optics("ccd50").distortion == night.optics("ccd54").distortion < 1.5e-3


def test_stars_are_where_the_optics_put_them(night: Truth) -> None:
    for number, exposure in enumerate(night.exposures):
        light, _ = image(night, "ccd50", number)
        stars = night.stars("ccd50", number)
        inside = (stars.y > 20) & (stars.y < 490) & (stars.x > 20) & (stars.x < 235) & (stars.peak < 30_000)
        best = int(np.argmax(np.where(inside, stars.peak, 0)))
        y, x = round(float(stars.y[best])), round(float(stars.x[best]))
        above = light[y, x] - np.median(light)
        assert above == pytest.approx(stars.peak[best], rel=0.25, abs=6 * np.sqrt(exposure.light))


def test_a_star_has_all_of_its_light() -> None:
    light = np.zeros((101, 101), np.float32)
    Stars(y=50 * ONE, x=50 * ONE, peak=1000 * ONE).add_to(light)
    assert light.sum() == pytest.approx(1000 * PEAK_FLUX, rel=1e-3)


@pytest.mark.parametrize("index", [0.8, 1.0, 4.0])
def test_a_galaxy_has_its_light_and_half_of_it_within_its_radius(index: float) -> None:
    light = np.zeros((200, 200), np.float32)
    whole = {"y": 100 * ONE, "x": 100.25 * ONE, "flux": 5e4 * ONE, "radius": 8 * ONE, "index": index * ONE}
    Galaxies(**whole, ratio=ONE, angle=0 * ONE).add_to(light)
    assert light.sum() == pytest.approx(5e4, rel=1e-4)
    y, x = np.mgrid[:200, :200]
    inner = light[np.hypot(y - 100, x - 100.25) < 8].sum() / light.sum()
    # Seeing carries light out, the end at five radii brings it in.
    assert inner == pytest.approx(0.5, abs=0.06)
    assert np.average(x, weights=light) == pytest.approx(100.25, abs=0.01)


def test_a_galaxy_is_long_along_its_angle() -> None:
    stamp = Shape(radius=6.0, index=1.0, ratio=0.4, angle=0.0).stamp(0.0, 0.0)
    y, x = np.mgrid[: len(stamp), : len(stamp)] - len(stamp) // 2
    assert np.average(x**2, weights=stamp) > 2 * np.average(y**2, weights=stamp)


def test_a_galaxy_beyond_the_edge_sheds_what_light_reaches_the_chip() -> None:
    light = np.zeros((60, 80), np.float32)
    one = {"flux": 1e4 * ONE, "radius": 4 * ONE, "index": ONE, "ratio": ONE, "angle": ONE}
    Galaxies(y=-5 * ONE, x=40 * ONE, **one).add_to(light)
    Galaxies(y=500 * ONE, x=-300 * ONE, **one).add_to(light)
    assert 0 < light.sum() < 5e3
    assert light[0, 40] == light.max()


def test_a_track_is_a_straight_line_of_its_signal() -> None:
    light = np.zeros((200, 100), np.float32)
    Tracks(y=50 * ONE, x=30 * ONE, angle=np.pi / 4 * ONE, signal=90 * ONE).add_to(light)
    rows = np.arange(20, 110)
    np.testing.assert_array_equal(np.argmax(light[rows], axis=1), rows - 20)
    assert light.max() == pytest.approx(90, rel=1e-5)


def optics(**changes: Any) -> Optics:
    """Return optics without faults."""
    plain = {"pixel_deg": 1e-4, "axis": (0.0, 0.0), "reach": 3000.0}
    return Optics(**{**plain, **changes}, distortion=0.0, turn=0.0, shift=(0.0, 0.0))


def test_all_chips_see_the_same_tracks() -> None:
    first, second = (thrown(optics(axis=axis), 40.0, np.random.default_rng(7)) for axis in ((0.0, 0.0), (100.0, -50.0)))
    assert len(first.y) > 0
    np.testing.assert_allclose(second.y - first.y, 100, rtol=1e-4)
    np.testing.assert_allclose(second.x - first.x, -50, rtol=1e-4)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_chip_that_is_turned_sees_the_same_sky_turned(rotation: int) -> None:
    ra, dec = deprojected(np.array([0.004, -0.003]), np.array([0.002, 0.005]), (53.1, -27.8))
    shapes = {"index": np.ones(2), "ratio": np.full(2, 0.4), "angle": np.full(2, 0.5)}
    field = Field(ra=ra, dec=dec, flux=np.array([2e3, 2e4]), radius=np.array([0.0, 12.0]), **shapes)
    exposure = Exposure(frame_class="RawScienceFrame", exptime=1.0, pointing=(53.1, -27.8))
    images = []
    for angle in (0, rotation):
        through = optics(axis=(100.0, 100.0), reach=100.0, rotation=angle)
        trails = thrown(through, 5.0, np.random.default_rng(7))
        assert len(trails.y) > 0
        images.append(np.zeros((201, 201), np.float32))
        seen(field, through, Layout(rows=201, columns=201, strips=Strips()), exposure, trails).add_to(images[-1])
    upright, image = images
    # Of an image whose first row is at the bottom, rot90 goes clockwise.
    np.testing.assert_allclose(np.rot90(image, -rotation // 90), upright, atol=2e-3 * upright.max())


def test_charge_beyond_the_well_runs_along_the_column() -> None:
    light = np.full((50, 3), 100.0, np.float32)
    light[20, 1] = 5_000
    found = bled(light, 1_000)
    assert found.max() == 1_000
    np.testing.assert_array_equal(np.flatnonzero(found[:, 1] > 100), range(17, 24))
    assert found.sum() == pytest.approx(light.sum())
    np.testing.assert_array_equal(found[:, [0, 2]], light[:, [0, 2]])


def test_charge_that_reaches_the_end_of_its_column_is_lost() -> None:
    assert bled(np.full((4, 2), 5_000.0, np.float32), 1_000).tolist() == [[1_000.0] * 2] * 4


def test_fringes_are_even_and_not_those_of_the_next_chip(night: Truth) -> None:
    first, second = (night.detector(chip).fringe_shape() for chip in CHIPS)
    for shape in (first, second):
        assert shape.mean() == pytest.approx(0, abs=0.02)
        assert shape.std() == pytest.approx(1, abs=0.02)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.2


def test_fringes_are_on_the_sky_as_strong_as_the_truth_says(night: Truth) -> None:
    detector = night.detector("ccd50")
    for number, exposure in enumerate(night.exposures):
        light, _ = image(night, "ccd50", number)
        sky = light / detector.flat / exposure.light
        quiet = np.abs(sky - np.median(sky)) < 0.1
        shape = detector.fringe_shape()
        strength = np.polyfit(shape[quiet], sky[quiet], 1)[0]
        assert strength == pytest.approx(exposure.fringes, rel=0.05)


def test_the_truth_of_the_sky_is_read_back(night: Truth) -> None:
    again = Truth.read(night.folder)
    assert again.exposures == night.exposures
    scene = again.scene("ccd50", 2)
    sources = len(scene.stars.y) + len(scene.galaxies.y)
    y, x = again.optics("ccd50").pixels(again.field().ra, again.field().dec, again.exposures[2].pointing)
    inside = (y > 0) & (y < 512) & (x > 0) & (x < 256)
    assert sources >= inside.sum() > 5
    assert {exposure.filter for exposure in again.exposures} == {"#846"}


def test_a_night_without_science_has_no_field(tmp_path: Path) -> None:
    truth = write_night(
        Night(instrument=load().get("WFI"), chips=("ccd50",), scale=1 / 32, biases=1), tmp_path / "night"
    )
    with pytest.raises(FileNotFoundError):
        truth.field()


def test_a_bright_star_bleeds_on_its_chip() -> None:
    layout = Layout(rows=100, columns=60, strips=Strips())
    chip = drawn("ccd50", layout, 10, None, np.random.default_rng(3))
    light = np.full((100, 60), 500.0, np.float32)
    Stars(y=50 * ONE, x=30 * ONE, peak=3e5 * ONE).add_to(light)
    kept = chip.kept(light)
    assert kept.max() <= 62_000
    full = np.flatnonzero(kept[:, 30] >= 61_999)
    assert np.ptp(full) > 10
    assert np.flatnonzero(light[:, 30] > 62_000).size < full.size
