"""The bars of the flats against the simulator's truth: one suite for every size. docs/reference/science-tests.md."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dpu_recipes.archive import Selection
from dpu_recipes.ccd.large_scale import large_scale
from dpu_recipes.ccd.noise import NoiseModel
from dpu_recipes.ccd.statistics import clipped
from dpu_recipes.simulate import Night, Truth, write_night
from dpu_recipes.simulate.night import illumination
from dpu_recipes.testing import (
    Allowance,
    assert_agrees,
    assert_at_least,
    assert_at_most,
    assert_noise,
    completeness,
    half_point,
    rms,
)
from fakes_science import INSTRUMENTS, Bench, a_bench

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from dpu_recipes.frames import Frame
    from dpu_recipes.simulate import Detector

    Image = NDArray[np.floating]

DOME, TWILIGHT = "RawDomeFlatFrame", "RawTwilightFlatFrame"
#: A star's footprint: where it gives more light than so many sigma of the noise of its frame.
FOOTPRINT = 1.0


@dataclass(frozen=True)
class FlatNight:
    """A simulated night of one chip, and the flats that the recipes made of it."""

    truth: Truth
    bench: Bench
    chip: str

    def made(self, frame_class: str) -> Frame:
        """Return the first product of a class."""
        wanted = Selection(instrument=self.bench.instrument, night=self.bench.night)
        return self.bench.archive.select(frame_class, wanted)[0]

    def image(self, frame_class: str) -> Image:
        """Return the image of the first product of a class."""
        return self.bench.pixels(self.made(frame_class))

    @cached_property
    def detector(self) -> Detector:
        """Return the chip as it was drawn."""
        return self.truth.detector(self.chip)

    def response(self, frame_class: str) -> Image:
        """Return the true response to the light of a class of frames, its clipped mean 1."""
        flat = self.detector.flat * (self.detector.lamp_shape() if frame_class == DOME else np.float32(1))
        return flat / np.float32(clipped(flat, threshold=5.0, iterations=5).mean)

    def small_scales(self) -> Image:
        """Return how each pixel responds beside its neighbours: what is left of the flat without its illumination."""
        instrument = INSTRUMENTS.get(self.truth.instrument)
        even = illumination(instrument, instrument.chip(self.chip), self.detector.layout)
        small = self.detector.flat / even
        return small / np.float32(np.median(small))

    def levels(self, frame_class: str) -> list[float]:
        """Return the true mean light of the frames of a class, ADU."""
        share = self.detector.flat * (self.detector.lamp_shape() if frame_class == DOME else np.float32(1))
        mean = float(share.mean(dtype=np.float64))
        return [exposure.light * mean for exposure in self.truth.exposures if exposure.frame_class == frame_class]

    def noise(self, frame_class: str) -> float:
        """Return what photons alone leave in a pixel of the mean: 1 / sqrt(g x sum of levels)."""
        return float(1 / np.sqrt(self.detector.gain * sum(self.levels(frame_class))))

    def footprints(self) -> NDArray[np.bool_]:
        """Return where in any twilight flat a star shines."""
        found = np.zeros(self.detector.flat.shape, bool)
        model = NoiseModel(gain=self.detector.gain, read_noise=self.detector.effective_read_noise)
        for index, exposure in enumerate(self.truth.exposures):
            if exposure.frame_class == TWILIGHT:
                light = np.zeros(found.shape, np.float32)
                self.truth.stars(self.chip, index).add_to(light)
                found |= light > FOOTPRINT * np.sqrt(model.variance(exposure.light))
        return found


def a_flat_night(folder: Path, *, chip: str, scale: float, seed: int) -> FlatNight:
    """Return a night of 10 biases, 10 dome and 10 twilight flats, and of all that is made of them."""
    asked = Night(
        instrument=INSTRUMENTS.get("WFI"), chips=(chip,), scale=scale, seed=seed, biases=10, domes=10, twilights=10
    )
    truth = write_night(asked, folder / "simulated")
    bench = a_bench(folder, "WFI", truth.night, sorted((folder / "simulated" / "raw").iterdir()))
    for recipe in ("ReadNoise", "Bias", "HotPixels", "DomeFlat", "ColdPixels", "TwilightFlat", "MasterFlat"):
        assert bench.run(recipe), recipe
    return FlatNight(truth, bench, chip)


class FlatBars:
    """What must hold of a night at any size; a subclass has the fixture `night`."""

    def test_a_dome_flat_has_the_noise_of_all_photons(self, night: FlatNight) -> None:
        self.check_noise(night, DOME, "DomeFlatFrame")

    def test_a_twilight_flat_has_the_noise_of_all_photons(self, night: FlatNight) -> None:
        self.check_noise(night, TWILIGHT, "TwilightFlatFrame")

    def check_noise(self, night: FlatNight, raw: str, makes: str) -> None:
        """Every pixel counts, outliers too."""
        residual = night.image(makes) / night.response(raw) - 1
        allowance = Allowance(error=night.noise(raw), times=1.08)
        assert_noise(f"residual of the {makes} of {night.chip}", rms(residual), allowance)

    def test_the_mean_of_a_flat_is_one(self, night: FlatNight) -> None:
        for makes in ("DomeFlatFrame", "TwilightFlatFrame"):
            mean = clipped(night.image(makes), threshold=5.0, iterations=5).mean
            assert_agrees(f"mean of the {makes}", mean, 1.0, Allowance(error=1e-5))

    def test_stars_in_twilight_are_gone(self, night: FlatNight) -> None:
        footprints = night.footprints()
        assert_at_least("part of the pixels on which a star has shone", float(footprints.mean()), 0.05)
        residual = night.image("TwilightFlatFrame") / night.response(TWILIGHT) - 1
        error = night.noise(TWILIGHT) / float(np.sqrt(footprints.sum()))
        assert_agrees("mean over the stars", float(residual[footprints].mean()), 0.0, Allowance(error=error, times=3))

    def test_pixels_far_off_their_neighbours_are_found(self, night: FlatNight) -> None:
        found, off = self.cold(night)
        assert_at_least("found, outside of 0.90 ... 1.10", completeness(found, off, 0.10), 0.99)

    def test_half_of_the_pixels_at_the_threshold_are_found(self, night: FlatNight) -> None:
        found, off = self.cold(night)
        point, error = half_point(found, off, edges=np.arange(0.03, 0.0901, 0.005).tolist())
        # Half a sigma of the response from pixel to pixel.
        assert_agrees(f"half-point, its own error {error:.4f}", point, 0.06, Allowance(error=0.005))

    def test_hardly_a_good_pixel_is_called_cold(self, night: FlatNight) -> None:
        found, off = self.cold(night)
        # Beyond the threshold a pixel is what it is called; nearer than the noise lets tell, it may be.
        false = found & (off < 0.06 - 3 * night.noise(DOME))
        assert_at_most("good pixels called cold", float(false.mean()), 1e-5)

    def cold(self, night: FlatNight) -> tuple[NDArray[np.bool_], Image]:
        """Return which pixels the map says are bad, and by how much each truly is off its neighbours."""
        good = night.image("ColdPixelMap")
        assert set(np.unique(good)) == {0, 1}
        return good == 0, np.abs(night.small_scales() - 1)

    def test_a_master_flat_has_the_low_frequencies_of_the_twilight(self, night: FlatNight) -> None:
        good = (night.image("HotPixelMap") == 1) & (night.image("ColdPixelMap") == 1)
        ratio = (night.image("MasterFlatFrame") / night.image("TwilightFlatFrame")).astype(np.float32)
        low = large_scale(ratio, good=good)
        assert_at_most("greatest deviation", float(np.abs(low / low.mean() - 1).max()), 1e-3)

    def test_a_master_flat_has_the_small_scales_of_the_dome(self, night: FlatNight) -> None:
        good = (night.image("HotPixelMap") == 1) & (night.image("ColdPixelMap") == 1)
        truth = night.response(TWILIGHT)
        residual = (night.image("MasterFlatFrame") / truth)[good]
        residual = residual / residual.mean() - 1
        allowance = Allowance(error=night.noise(DOME), times=1.08)
        assert_noise("residual of the master flat", rms(residual), allowance)

    def test_bad_pixels_of_a_master_flat_are_replaced(self, night: FlatNight) -> None:
        bad = (night.image("HotPixelMap") == 0) | (night.image("ColdPixelMap") == 0)
        master = night.image("MasterFlatFrame")
        smooth = large_scale(master, good=~bad)
        assert_at_most("replaced pixels off the large scales", float(np.abs(master[bad] / smooth[bad] - 1).max()), 0.01)

    def test_a_quick_check_meets_the_shot_noise(self, night: FlatNight) -> None:
        check = self.checked(night)
        windows = (night.detector.layout.rows // 100) * (night.detector.layout.columns // 100)
        print(f"the largest of {windows} windows; noise predicts {1 / np.sqrt(2 * 100 * 100):.2%} for each")
        assert_noise("scatter in a window", float(check.values["SCATTER"]), Allowance(error=1.0, times=1.1))
        assert_noise("row to row", float(check.values["ROW_SCATTER"]), Allowance(error=1.0, times=1.5))
        assert_at_most("saturated", float(check.values["SATURATED"]), 0.001)

    def test_a_quick_check_tells_the_level(self, night: FlatNight) -> None:
        check = self.checked(night)
        lit = next(exposure.light for exposure in night.truth.exposures if exposure.lamp)
        response = night.detector.flat * night.detector.lamp_shape()
        # As the recipe's mean, without cold pixels.
        light = lit * clipped(response, threshold=5.0, iterations=5).mean
        noise = float(np.sqrt(light / night.detector.gain / response.size))
        allowance = Allowance(error=noise, times=4, systematic=0.1, because="ADU of bias and overscan")
        assert_agrees("level, ADU", float(check.values["MEAN"]), light, allowance)
        assert check.quality_flags == 0

    def checked(self, night: FlatNight) -> Frame:
        """Return what QuickCheck makes of the night, the gain being known as a recipe for it would have measured it."""
        if not night.bench.products("QuickCheckFrame"):
            (noise,) = night.bench.products("ReadNoise")
            gain = {"GAIN": night.detector.gain}
            night.bench.archive.save(noise.evolve(id="", frame_class="GainLinearity", values=gain, file_name=""))
            night.bench.run("QuickCheck")
        return night.made("QuickCheckFrame")

    def test_products_of_a_good_night_carry_no_flags(self, night: FlatNight) -> None:
        classes = ("DomeFlatFrame", "TwilightFlatFrame", "ColdPixelMap", "MasterFlatFrame")
        assert {name: night.made(name).quality_flags for name in classes} == dict.fromkeys(classes, 0)
