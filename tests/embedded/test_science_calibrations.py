"""The bars of the detector calibrations: recipes against the simulator's truth, and on a real night.

Every figure is printed with what noise predicts for it (`pytest -rP` shows those that held, too). Nothing here is
adapted to a seed, a chip or a size: docs/reference/science-tests.md lists the bars.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dpu_recipes.instrument import load
from dpu_recipes.simulate import Night, Truth, write_night
from dpu_recipes.simulate.exposure import PICK_UP
from dpu_recipes.testing import (
    Allowance,
    assert_agrees,
    assert_at_least,
    assert_at_most,
    assert_noise,
    bias_noise,
    clipped_rms,
    completeness,
    false_fraction,
    half_point,
    read_noise_error,
    rms,
)
from fakes_instruments import real_data
from fakes_science import Bench, a_bench

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
#: ADU, known of that night.
READ_NOISE_NICKEL = 5.31


@dataclass(frozen=True)
class Simulated:
    """A simulated night with its truth, ready to be reduced."""

    truth: Truth
    bench: Bench

    def each(self, products: list[Frame]) -> Iterator[tuple[Frame, Detector]]:
        """Yield each product with the truth of its chip."""
        assert [product.chip for product in products] == list(CHIPS)
        for product in products:
            yield product, self.truth.detector(product.chip)

    def hot_pixels(self, maps: list[Frame]) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.floating]]]:
        """Yield chip, what was found, and the true amplitudes in units of a pixel's noise in the bias."""
        for product, detector in self.each(maps):
            good = self.bench.pixels(product)
            assert set(np.unique(good)) == {0, 1}
            yield product.chip, good == 0, detector.hot / detector.sigma


@pytest.fixture(scope="module", params=SEEDS, ids=lambda seed: f"seed{seed}")
def simulated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """Return a night of the WFI at quarter size."""
    folder = tmp_path_factory.mktemp("night")
    wfi = INSTRUMENTS.get("WFI")
    night = Night(instrument=wfi, chips=CHIPS, scale=0.25, seed=request.param, biases=BIASES)
    truth = write_night(night, folder / "simulated")
    files = sorted((folder / "simulated" / "raw").iterdir())
    return Simulated(truth=truth, bench=a_bench(folder, "WFI", truth.night, files))


@pytest.fixture(scope="module")
def read_noises(simulated: Simulated) -> list[Frame]:
    """Return the ReadNoise of each chip."""
    return simulated.bench.run("ReadNoise")


@pytest.fixture(scope="module")
def biases(simulated: Simulated, read_noises: list[Frame]) -> list[Frame]:
    """Return the BiasFrame of each chip, which needs its ReadNoise."""
    assert read_noises
    return simulated.bench.run("Bias")


@pytest.fixture(scope="module")
def maps(simulated: Simulated, biases: list[Frame]) -> list[Frame]:
    """Return the HotPixelMap of each chip, which needs its BiasFrame."""
    assert biases
    return simulated.bench.run("HotPixels")


@pytest.fixture(scope="module")
def nickel(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Return the ten biases of a real night at the Nickel telescope, ready to be reduced."""
    files = sorted(real_data("nickel_20240513").glob("d10[01]?.fits.fz"))
    assert len(files) == BIASES
    return a_bench(tmp_path_factory.mktemp("nickel"), "NICKEL", "2024-05-12", files)


def test_the_read_noise_is_the_true_one(simulated: Simulated, read_noises: list[Frame]) -> None:
    for product, detector in simulated.each(read_noises):
        truth = detector.effective_read_noise
        # Four times the error is 0.39 % of a quarter-size chip, and 0.098 % of a whole one.
        allowance = Allowance(error=read_noise_error(truth, detector.hot.size), times=4)
        assert_agrees(f"read noise of {product.chip}, ADU", float(product.values["READNOISE"]), truth, allowance)


def test_a_drift_of_the_level_is_measured(simulated: Simulated, read_noises: list[Frame]) -> None:
    for product, detector in simulated.each(read_noises):
        first, second = simulated.truth.chips[product.chip]["drift"][:2]
        # A row's pick-up is one value for all its pixels.
        variance = detector.effective_read_noise**2 / detector.hot.size
        variance += (PICK_UP * detector.read_noise) ** 2 / detector.layout.rows
        error = float(np.sqrt(2 * variance))
        measured = float(product.values["BIAS_DIFFERENCE"])
        assert_agrees(f"difference of {product.chip}, ADU", measured, first - second, Allowance(error=error, times=4))


def test_the_noise_of_the_bias_is_what_the_read_noise_leaves(simulated: Simulated, biases: list[Frame]) -> None:
    for product, detector in simulated.each(biases):
        noise = detector.effective_read_noise
        overscan = noise**2 / detector.layout.strips.overscan_x
        predicted = bias_noise(noise, BIASES, clip=3.0, overscan_variance=overscan)
        residual = simulated.bench.pixels(product) - detector.bias(6)
        good = detector.hot == 0
        assert_noise(f"residual of {product.chip}, ADU", rms(residual[good]), Allowance(error=predicted, times=1.01))


def test_hot_pixels_keep_their_signal_in_the_bias(simulated: Simulated, biases: list[Frame]) -> None:
    for product, detector in simulated.each(biases):
        noise = detector.effective_read_noise
        predicted = bias_noise(noise, BIASES, clip=3.0, overscan_variance=noise**2 / detector.layout.strips.overscan_x)
        residual = (simulated.bench.pixels(product) - detector.bias(6))[detector.hot > 0]
        # Of some thousand pixels, the rms itself has an error.
        allowance = Allowance(error=predicted, times=1.01 + 3 / np.sqrt(2 * residual.size))
        assert_noise(f"residual of hot pixels of {product.chip}, ADU", rms(residual), allowance)


def test_without_overscan_the_frames_are_matched_in_level(simulated: Simulated, maps: list[Frame]) -> None:
    # After the maps, which HotPixels makes from the newest bias. One chip shows it.
    assert maps
    for product in simulated.bench.run("Bias", overscan=0, chip=CHIPS[0]):
        detector = simulated.truth.detector(product.chip)
        residual = simulated.bench.pixels(product) - detector.bias(0)
        # The mean level is the frames' own, drift included.
        drift = float(np.mean(simulated.truth.chips[product.chip]["drift"]))
        good = detector.hot == 0
        predicted = bias_noise(detector.effective_read_noise, BIASES, clip=3.0)
        allowance = Allowance(error=predicted, times=1.01)
        assert_noise(f"residual of {product.chip} by method 0, ADU", rms(residual[good] - drift), allowance)


def test_hot_pixels_far_above_the_noise_are_found(simulated: Simulated, maps: list[Frame]) -> None:
    for chip, found, amplitudes in simulated.hot_pixels(maps):
        assert_at_least(f"{chip}: found beyond 8 sigma", completeness(found, amplitudes, 8.0), 0.99)


def test_every_hot_column_is_found_from_end_to_end(simulated: Simulated, maps: list[Frame]) -> None:
    lines = 0
    for chip, found, amplitudes in simulated.hot_pixels(maps):
        for column in np.flatnonzero(np.mean(amplitudes >= 8.0, axis=0) > 0.05):
            part = completeness(found[:, column], amplitudes[:, column], 8.0)
            assert_at_least(f"{chip}: found of column {column}", part, 0.99)
            lines += 1
    assert lines >= 3, "the simulated night has too few hot columns to tell"


def test_half_of_the_pixels_at_the_threshold_are_found(simulated: Simulated, maps: list[Frame]) -> None:
    for chip, found, amplitudes in simulated.hot_pixels(maps):
        # The pixels of a column share one amplitude: they would count as many and be one.
        single = (amplitudes > 0) & (np.mean(amplitudes > 0, axis=0) < 0.05)
        point, error = half_point(found[single], amplitudes[single], edges=np.arange(3.0, 8.1, 0.5).tolist())
        what = f"{chip}: half-point, its own error {error:.2f}"
        assert_agrees(what, point, THRESHOLD, Allowance(error=0.5))


def test_hardly_a_good_pixel_is_called_hot(simulated: Simulated, maps: list[Frame]) -> None:
    for chip, found, amplitudes in simulated.hot_pixels(maps):
        assert_at_most(f"{chip}: good pixels called hot", false_fraction(found, amplitudes), 5e-5)


def test_products_of_a_good_night_carry_no_flags(
    read_noises: list[Frame], biases: list[Frame], maps: list[Frame]
) -> None:
    assert [product.quality_flags for product in (*read_noises, *biases, *maps)] == [0] * 9


def test_every_pair_of_real_biases_has_the_known_read_noise(nickel: Bench) -> None:
    names = [frame.file_name for frame in nickel.products("RawBiasFrame")]
    pairs = list(pairwise(names))
    assert len(pairs) == BIASES - 1
    for pair in pairs:
        (product,) = nickel.run("ReadNoise", raw_filenames=list(pair))
        measured = float(product.values["READNOISE"])
        assert_agrees(f"read noise of {' and '.join(pair)}, ADU", measured, READ_NOISE_NICKEL, Allowance(error=0.10))


@pytest.mark.parametrize("clip", [5.0, 3.0])
def test_the_bias_of_a_real_night_meets_its_noise(nickel: Bench, clip: float) -> None:
    # Made again, so that it is the newest: another test measures other pairs, and the newest one sets the clip.
    nickel.run("ReadNoise", force=True)
    names = [frame.file_name for frame in nickel.products("RawBiasFrame")]
    pars = {"BiasFrame.process_params.SIGMA_CLIP": clip}
    (even,) = nickel.run("Bias", overscan=10, raw_filenames=names[0::2], pars=pars)
    (odd,) = nickel.run("Bias", overscan=10, raw_filenames=names[1::2], pars=pars)
    residual = (nickel.pixels(even) - nickel.pixels(odd)) / 2
    print(f"about 0, not clipped: {rms(residual):.4f} ADU; about the mean: {residual.std():.4f} ADU")
    # Method 10 averages ten rows of the strip's 32 columns.
    overscan = READ_NOISE_NICKEL**2 / (32 * 10)
    predicted = bias_noise(READ_NOISE_NICKEL, BIASES // 2, clip=clip, overscan_variance=overscan, means=2)
    # About the mean: by how much the levels differ is no noise of a pixel. At 3 sigma the residual is clipped, as the
    # statistics of real frames are: what flickers is no read noise, and that rejection turns more of it into scatter.
    measured = residual.std() if clip == 5.0 else clipped_rms(residual)
    allowance = Allowance(error=predicted, times=1.01)
    assert_noise(f"(even - odd)/2 of the Nickel biases, rejection at {clip:g} sigma, ADU", float(measured), allowance)
