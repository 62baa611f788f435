"""The bars of read noise, bias and hot pixels against the simulator's truth: one suite for every size.

docs/reference/science-tests.md lists them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dpu_recipes.simulate import Night, Truth, write_night
from dpu_recipes.simulate.counts import PICK_UP
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
from fakes_science import INSTRUMENTS, Bench, a_bench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from dpu_recipes.frames import Frame
    from dpu_recipes.simulate import Detector

BIASES = 10
#: Of HotPixels, in units of a pixel's noise in the bias.
THRESHOLD = 5.0


@dataclass(frozen=True)
class BiasNight:
    """A simulated night with its truth, and what the recipes made of its biases, one product a chip."""

    truth: Truth
    bench: Bench
    chips: tuple[str, ...]
    read_noises: list[Frame]
    biases: list[Frame]
    maps: list[Frame]

    def each(self, products: list[Frame]) -> Iterator[tuple[Frame, Detector]]:
        """Yield each product with the truth of its chip."""
        assert [product.chip for product in products] == list(self.chips)
        for product in products:
            yield product, self.truth.detector(product.chip)

    def noise_of_pair(self, detector: Detector) -> float:
        """Return the noise of the first two biases, ADU: the read noise, and what their rows have of their own."""
        first, second = self.truth.chips[detector.chip]["slope"][:2]
        # A slope from end to end has a variance of 1/12 of its square.
        slope = (first - second) ** 2 / 2 / 12
        pick_up = (PICK_UP * detector.read_noise) ** 2
        return float(np.sqrt(detector.effective_read_noise**2 + slope + pick_up))

    def residuals(self) -> Iterator[tuple[Detector, NDArray[np.floating], float]]:
        """Yield the truth of each chip, by how much its bias is off, ADU, and the noise that is predicted for that."""
        for product, detector in self.each(self.biases):
            noise = detector.effective_read_noise
            overscan = noise**2 / detector.layout.strips.overscan_x
            predicted = bias_noise(noise, BIASES, clip=3.0, overscan_variance=overscan)
            yield detector, self.bench.pixels(product) - detector.bias(6), predicted

    def hot_pixels(self) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.floating]]]:
        """Yield chip, what was found, and the true amplitudes in units of a pixel's noise in the bias."""
        for product, detector in self.each(self.maps):
            good = self.bench.pixels(product)
            assert set(np.unique(good)) == {0, 1}
            yield product.chip, good == 0, detector.hot / detector.sigma


def a_bias_night(folder: Path, *, chips: tuple[str, ...], scale: float, seed: int) -> BiasNight:
    """Return a night of 10 biases of the WFI, and all that is made of them."""
    night = Night(instrument=INSTRUMENTS.get("WFI"), chips=chips, scale=scale, seed=seed, biases=BIASES)
    truth = write_night(night, folder / "simulated")
    bench = a_bench(folder, "WFI", truth.night, sorted((folder / "simulated" / "raw").iterdir()))
    read_noises, biases, maps = (bench.run(recipe) for recipe in ("ReadNoise", "Bias", "HotPixels"))
    return BiasNight(truth, bench, chips, read_noises=read_noises, biases=biases, maps=maps)


class BiasBars:
    """What must hold of a night at any size; a subclass has the fixture `night`, and what its size allows."""

    #: How far the read noise may be off, part of it.
    allowed: float
    #: Part of the pixels that may be called hot and are good.
    false: float

    def test_the_read_noise_is_the_true_one(self, night: BiasNight) -> None:
        for product, detector in night.each(night.read_noises):
            truth, rows = detector.effective_read_noise, night.noise_of_pair(detector)
            error = read_noise_error(truth, detector.hot.size)
            print(f"noise predicts {error / truth:.3%}, what differs from row to row adds {rows / truth - 1:.3%}")
            allowance = Allowance(error=self.allowed * truth)
            assert_agrees(f"read noise of {product.chip}, ADU", float(product.values["READNOISE"]), truth, allowance)

    def test_the_noise_of_a_pair_is_all_that_is_in_it(self, night: BiasNight) -> None:
        for product, detector in night.each(night.read_noises):
            truth = night.noise_of_pair(detector)
            allowance = Allowance(error=read_noise_error(truth, detector.hot.size), times=4)
            assert_agrees(f"noise of {product.chip}, ADU", float(product.values["READNOISE"]), truth, allowance)

    def test_a_drift_of_the_level_is_measured(self, night: BiasNight) -> None:
        for product, detector in night.each(night.read_noises):
            first, second = night.truth.chips[product.chip]["drift"][:2]
            # A row's pick-up is one value for all its pixels.
            variance = detector.effective_read_noise**2 / detector.hot.size
            variance += (PICK_UP * detector.read_noise) ** 2 / detector.layout.rows
            measured = float(product.values["BIAS_DIFFERENCE"])
            allowance = Allowance(error=float(np.sqrt(2 * variance)), times=4)
            assert_agrees(f"difference of {product.chip}, ADU", measured, first - second, allowance)

    def test_the_noise_of_the_bias_is_what_the_read_noise_leaves(self, night: BiasNight) -> None:
        for detector, residual, predicted in night.residuals():
            measured = rms(residual[detector.hot == 0])
            assert_noise(f"residual of {detector.chip}, ADU", measured, Allowance(error=predicted, times=1.01))

    def test_hot_pixels_keep_their_signal_in_the_bias(self, night: BiasNight) -> None:
        for detector, residual, predicted in night.residuals():
            hot = residual[detector.hot > 0]
            # Of some thousand pixels, the rms itself has an error.
            allowance = Allowance(error=predicted, times=1.01 + 3 / np.sqrt(2 * hot.size))
            assert_noise(f"residual of hot pixels of {detector.chip}, ADU", rms(hot), allowance)

    def test_without_overscan_the_frames_are_matched_in_level(self, night: BiasNight) -> None:
        # One chip shows it.
        for product in night.bench.run("Bias", overscan=0, chip=night.chips[0]):
            detector = night.truth.detector(product.chip)
            residual = night.bench.pixels(product) - detector.bias(0)
            # The mean level is the frames' own, drift included.
            drift = float(np.mean(night.truth.chips[product.chip]["drift"]))
            measured = rms(residual[detector.hot == 0] - drift)
            allowance = Allowance(error=bias_noise(detector.effective_read_noise, BIASES, clip=3.0), times=1.01)
            assert_noise(f"residual of {product.chip} by method 0, ADU", measured, allowance)

    def test_hot_pixels_far_above_the_noise_are_found(self, night: BiasNight) -> None:
        for chip, found, amplitudes in night.hot_pixels():
            assert_at_least(f"{chip}: found beyond 8 sigma", completeness(found, amplitudes, 8.0), 0.99)

    def test_every_hot_column_is_found_from_end_to_end(self, night: BiasNight) -> None:
        lines = 0
        for chip, found, amplitudes in night.hot_pixels():
            for column in np.flatnonzero(np.mean(amplitudes >= 8.0, axis=0) > 0.05):
                part = completeness(found[:, column], amplitudes[:, column], 8.0)
                assert_at_least(f"{chip}: found of column {column}", part, 0.99)
                lines += 1
        assert lines >= 3, "the simulated night has too few hot columns to tell"

    def test_half_of_the_pixels_at_the_threshold_are_found(self, night: BiasNight) -> None:
        for chip, found, amplitudes in night.hot_pixels():
            # The pixels of a column share one amplitude: they would count as many and be one.
            single = (amplitudes > 0) & (np.mean(amplitudes > 0, axis=0) < 0.05)
            point, error = half_point(found[single], amplitudes[single], edges=np.arange(3.0, 8.1, 0.5).tolist())
            what = f"{chip}: half-point, its own error {error:.2f}"
            assert_agrees(what, point, THRESHOLD, Allowance(error=0.5))

    def test_hardly_a_good_pixel_is_called_hot(self, night: BiasNight) -> None:
        for chip, found, amplitudes in night.hot_pixels():
            assert_at_most(f"{chip}: good pixels called hot", false_fraction(found, amplitudes), self.false)

    def test_products_of_a_good_night_carry_no_flags(self, night: BiasNight) -> None:
        made = (*night.read_noises, *night.biases, *night.maps)
        assert [product.quality_flags for product in made] == [0] * 3 * len(night.chips)
