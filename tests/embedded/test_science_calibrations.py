"""The bars of the detector calibrations: recipes against the simulator's truth, and on a real night.

Every figure is printed with what noise predicts for it (`pytest -rP` shows those that held, too). Nothing here is
adapted to a seed, a chip or a size: docs/reference/science-tests.md lists the bars.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from dpu_recipes import registry
from dpu_recipes.archive import Selection
from dpu_recipes.archive_folder import FolderArchive
from dpu_recipes.frames import read_image
from dpu_recipes.instrument import load
from dpu_recipes.simulate import Night, Truth, write_night
from dpu_recipes.testing import (
    Allowance,
    assert_agrees,
    assert_at_least,
    assert_at_most,
    assert_noise,
    bias_noise,
    completeness,
    false_fraction,
    half_point,
    read_noise_error,
    rms,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from dpu_recipes.frames import Frame
    from dpu_recipes.simulate import Detector

INSTRUMENTS = load()
SEEDS = (1, 2, 3)
CHIPS = ("ccd50", "ccd51", "ccd52")
BIASES = 10
#: Of HotPixels, in units of a pixel's noise in the bias.
THRESHOLD = 5.0
NICKEL = Path(os.environ.get("DPU_SHARED_DATA", Path(__file__).parents[2] / "../shared/data")) / "nickel_20240513"


@dataclass(frozen=True)
class Bench:
    """An archive, and the recipes run over it."""

    archive: FolderArchive
    instrument: str
    night: str
    scratch: Path

    def run(self, recipe: str, **options: Any) -> list[Frame]:
        """Run a recipe for every chip and return what it made, in order of chip."""
        frame_class = registry.find(recipe).makes
        before = {frame.id for frame in self.products(frame_class)}
        asked = {"instrument": self.instrument, "date": self.night, **options}
        if "raw_filenames" in options:
            del asked["date"]
        for spec in registry.plan(recipe, asked, self.archive, self.scratch):
            registry.run(recipe, asked, self.archive, self.scratch, spec)
        return [frame for frame in self.products(frame_class) if frame.id not in before]

    def products(self, frame_class: str) -> list[Frame]:
        """Return the products of a class."""
        return self.archive.select(frame_class, Selection(instrument=self.instrument, night=self.night))

    def pixels(self, product: Frame) -> NDArray[Any]:
        """Return a product's image."""
        return read_image(self.archive.open(product))[0]


@dataclass(frozen=True)
class Reduced:
    """A simulated night, its truth, and what the recipes made of it."""

    truth: Truth
    bench: Bench
    read_noises: list[Frame]
    biases: list[Frame]
    maps: list[Frame]

    def each(self, products: list[Frame]) -> Iterator[tuple[Frame, Detector]]:
        """Yield each product with the truth of its chip."""
        assert [product.chip for product in products] == list(CHIPS)
        for product in products:
            yield product, self.truth.detector(product.chip)


@pytest.fixture(scope="module", params=SEEDS, ids=lambda seed: f"seed{seed}")
def reduced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reduced:
    """Return a night of the WFI at quarter size, reduced."""
    folder = tmp_path_factory.mktemp("night")
    wfi = INSTRUMENTS.get("WFI")
    night = Night(instrument=wfi, chips=CHIPS, scale=0.25, seed=request.param, biases=BIASES)
    truth = write_night(night, folder / "simulated")
    bench = a_bench(folder, "WFI", truth.night, sorted((folder / "simulated" / "raw").iterdir()))
    return Reduced(
        truth=truth,
        bench=bench,
        read_noises=bench.run("ReadNoise"),
        biases=bench.run("Bias"),
        maps=bench.run("HotPixels"),
    )


@pytest.fixture(scope="module")
def nickel(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Return the ten biases of a real night at the Nickel telescope, ready to be reduced."""
    files = sorted(NICKEL.glob("d10[01]?.fits.fz"))
    if not files:
        pytest.skip(f"there are no raw frames in {NICKEL.parent.name}/{NICKEL.name} (DPU_SHARED_DATA names its parent)")
    assert len(files) == BIASES
    return a_bench(tmp_path_factory.mktemp("nickel"), "NICKEL", "2024-05-12", files)


def a_bench(folder: Path, instrument: str, night: str, files: list[Path]) -> Bench:
    """Return a bench over a new archive with the frames of `files`."""
    archive = FolderArchive(folder / "archive", INSTRUMENTS)
    for file in files:
        archive.ingest(file)
    (folder / "scratch").mkdir()
    return Bench(archive=archive, instrument=instrument, night=night, scratch=folder / "scratch")


def test_the_read_noise_is_the_true_one(reduced: Reduced) -> None:
    for product, detector in reduced.each(reduced.read_noises):
        truth = detector.effective_read_noise
        # Four times the error is 0.39 % of a quarter-size chip, and 0.098 % of a whole one.
        allowance = Allowance(error=read_noise_error(truth, detector.hot.size), times=4)
        assert_agrees(f"read noise of {product.chip}, ADU", float(product.values["READNOISE"]), truth, allowance)


def test_a_drift_of_the_level_is_measured(reduced: Reduced) -> None:
    for product, detector in reduced.each(reduced.read_noises):
        first, second = reduced.truth.chips[product.chip]["drift"][:2]
        error = detector.effective_read_noise * np.sqrt(2 / detector.hot.size)
        measured = float(product.values["BIAS_DIFFERENCE"])
        assert_agrees(f"difference of {product.chip}, ADU", measured, first - second, Allowance(error=error, times=4))


def test_the_noise_of_the_bias_is_what_the_read_noise_leaves(reduced: Reduced) -> None:
    for product, detector in reduced.each(reduced.biases):
        noise = detector.effective_read_noise
        overscan = noise**2 / detector.layout.strips.overscan_x
        predicted = bias_noise(noise, BIASES, clip=3.0, overscan_variance=overscan)
        residual = reduced.bench.pixels(product) - detector.bias(6)
        good = detector.hot == 0
        assert_noise(f"residual of {product.chip}, ADU", rms(residual[good]), Allowance(error=predicted, times=1.01))


def test_hot_pixels_keep_their_signal_in_the_bias(reduced: Reduced) -> None:
    for product, detector in reduced.each(reduced.biases):
        noise = detector.effective_read_noise
        predicted = bias_noise(noise, BIASES, clip=3.0, overscan_variance=noise**2 / detector.layout.strips.overscan_x)
        residual = (reduced.bench.pixels(product) - detector.bias(6))[detector.hot > 0]
        # Of some thousand pixels, the rms itself has an error.
        allowance = Allowance(error=predicted, times=1.01 + 3 / np.sqrt(2 * residual.size))
        assert_noise(f"residual of hot pixels of {product.chip}, ADU", rms(residual), allowance)


def test_without_overscan_the_frames_are_matched_in_level(reduced: Reduced) -> None:
    # One chip shows it: the drifts are far above the noise of any.
    for product in reduced.bench.run("Bias", overscan=0, chip=CHIPS[0]):
        detector = reduced.truth.detector(product.chip)
        residual = reduced.bench.pixels(product) - detector.bias(0)
        # The mean level is the frames' own, drift included.
        drift = float(np.mean(reduced.truth.chips[product.chip]["drift"]))
        good = detector.hot == 0
        predicted = bias_noise(detector.effective_read_noise, BIASES, clip=3.0)
        allowance = Allowance(error=predicted, times=1.01)
        assert_noise(f"residual of {product.chip} by method 0, ADU", rms(residual[good] - drift), allowance)


def test_hot_pixels_far_above_the_noise_are_found(reduced: Reduced) -> None:
    for found, amplitudes, chip in hot_pixels(reduced):
        assert_at_least(f"{chip}: found beyond 8 sigma", completeness(found, amplitudes, 8.0), 0.99)


def test_every_hot_column_is_found_from_end_to_end(reduced: Reduced) -> None:
    lines = 0
    for found, amplitudes, chip in hot_pixels(reduced):
        for column in np.flatnonzero(np.mean(amplitudes >= 8.0, axis=0) > 0.05):
            part = completeness(found[:, column], amplitudes[:, column], 8.0)
            assert_at_least(f"{chip}: found of column {column}", part, 0.99)
            lines += 1
    assert lines >= 3, "the simulated night has too few hot columns to tell"


def test_half_of_the_pixels_at_the_threshold_are_found(reduced: Reduced) -> None:
    for found, amplitudes, chip in hot_pixels(reduced):
        # The pixels of a column share one amplitude: they would count as many and be one.
        single = (amplitudes > 0) & (np.mean(amplitudes > 0, axis=0) < 0.05)
        point, error = half_point(found[single], amplitudes[single], edges=np.arange(3.0, 8.1, 0.5).tolist())
        what = f"{chip}: half-point, its own error {error:.2f}"
        assert_agrees(what, point, THRESHOLD, Allowance(error=0.5))


def test_hardly_a_good_pixel_is_called_hot(reduced: Reduced) -> None:
    for found, amplitudes, chip in hot_pixels(reduced):
        assert_at_most(f"{chip}: good pixels called hot", false_fraction(found, amplitudes), 5e-5)


def test_products_of_a_good_night_carry_no_flags(reduced: Reduced) -> None:
    products = [*reduced.read_noises, *reduced.biases, *reduced.maps]
    assert {product.frame_class: product.quality_flags for product in products} == {
        "ReadNoise": 0,
        "BiasFrame": 0,
        "HotPixelMap": 0,
    }


def test_every_pair_of_real_biases_has_the_known_read_noise(nickel: Bench) -> None:
    names = [frame.file_name for frame in nickel.products("RawBiasFrame")]
    pairs = list(pairwise(names))
    assert len(pairs) == BIASES - 1
    for pair in pairs:
        (product,) = nickel.run("ReadNoise", raw_filenames=list(pair))
        measured = float(product.values["READNOISE"])
        assert_agrees(f"read noise of {' and '.join(pair)}, ADU", measured, 5.31, Allowance(error=0.10))


def test_the_bias_of_a_real_night_meets_its_noise(nickel: Bench) -> None:
    read_noise = float(nickel.run("ReadNoise")[0].values["READNOISE"])
    names = [frame.file_name for frame in nickel.products("RawBiasFrame")]
    (even,) = nickel.run("Bias", overscan=10, raw_filenames=names[0::2])
    (odd,) = nickel.run("Bias", overscan=10, raw_filenames=names[1::2])
    residual = (nickel.pixels(even) - nickel.pixels(odd)) / 2
    # Method 10 averages ten rows of the strip's 32 columns.
    predicted = bias_noise(read_noise, BIASES, clip=3.0, overscan_variance=read_noise**2 / (32 * 10))
    assert_noise("(even - odd)/2 of the Nickel biases, ADU", rms(residual), Allowance(error=predicted, times=1.01))


def hot_pixels(reduced: Reduced) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.floating], str]]:
    """Yield what was found, the true amplitudes in units of a pixel's noise in the bias, and the chip."""
    for product, detector in reduced.each(reduced.maps):
        good = reduced.bench.pixels(product)
        assert set(np.unique(good)) == {0, 1}
        yield good == 0, detector.hot / detector.sigma, product.chip
