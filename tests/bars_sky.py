"""The bars of night-sky flats and fringes against the simulator's truth: docs/reference/science-tests.md."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dpu_recipes.archive import Selection
from dpu_recipes.ccd.fringe import scaled
from dpu_recipes.ccd.large_scale import large_scale
from dpu_recipes.ccd.noise import NoiseModel
from dpu_recipes.ccd.statistics import clipped
from dpu_recipes.simulate import Night, Truth, write_night
from dpu_recipes.testing import Allowance, assert_agrees, assert_at_least, assert_at_most, assert_noise, rms
from fakes_science import INSTRUMENTS, Bench, a_bench

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from dpu_recipes.frames import Frame
    from dpu_recipes.simulate import Detector, Exposure

    Image = NDArray[np.floating]

#: A filter through which the WFI has fringes, and one through which it has none.
FRINGING, PLAIN = "#846", "#842"
#: Rms of the fringes, part of the sky; science exposures of a night, and flats of each kind.
FRINGES, SCIENCES, FLATS = 0.03, 5, 10
#: In units of the noise of a pixel: a source has shone where its light is above this.
FOOTPRINT = 1.0
CALIBRATIONS = ("ReadNoise", "Bias", "HotPixels", "DomeFlat", "ColdPixels", "TwilightFlat", "MasterFlat")
#: Thresholds of the fit, in sigma: of the fringes, and of the image.
BETWEEN, THRESHOLD = (0.5, 5.0), 3.0


@dataclass(frozen=True)
class SkyNight:
    """A simulated night of one chip and filter with science frames, and what was made of it."""

    truth: Truth
    bench: Bench
    chip: str

    def made(self, frame_class: str) -> Frame:
        """Return the newest product of a class."""
        wanted = Selection(instrument=self.bench.instrument, night=self.bench.night)
        return max(self.bench.archive.select(frame_class, wanted), key=lambda frame: frame.creation_date)

    def image(self, frame_class: str) -> Image:
        """Return the image of the newest product of a class."""
        return self.bench.pixels(self.made(frame_class))

    @cached_property
    def detector(self) -> Detector:
        """Return the chip as it was drawn."""
        return self.truth.detector(self.chip)

    @cached_property
    def good(self) -> NDArray[np.bool_]:
        """Return where no map says that a pixel is bad."""
        return (self.image("HotPixelMap") == 1) & (self.image("ColdPixelMap") == 1)

    def exposures(self) -> list[Exposure]:
        """Return the science exposures."""
        return [exposure for exposure in self.truth.exposures if exposure.science]

    def response(self) -> Image:
        """Return the true response to even light, its clipped mean 1."""
        flat = self.detector.flat
        return flat / np.float32(clipped(flat, threshold=5.0, iterations=5).mean)

    def noise(self) -> float:
        """Return what photons and read-out leave in a pixel of the mean of the science frames, part of the sky."""
        share = float(self.detector.flat.mean(dtype=np.float64))
        model = NoiseModel(gain=self.detector.gain, read_noise=self.detector.effective_read_noise)
        return float(sum(model.relative(exposure.light * share) ** -2 for exposure in self.exposures()) ** -0.5)

    def sky(self, number: int) -> Image:
        """Return the science frame of a number, flat-fielded, ADU."""
        frame = self.bench.products("RawScienceFrame")[number]
        raw = self.bench.pixels(frame).astype(np.float32)
        regions = self.detector.layout.regions
        light = raw[regions.data] - raw[regions.overscan_x].mean(axis=1, keepdims=True) - self.image("BiasFrame")
        return light / self.image("MasterFlatFrame")

    def flat_noise(self) -> float:
        """Return what photons leave in a pixel of the dome flat, which has the small scales of the master flat."""
        share = float((self.detector.flat * self.detector.lamp_shape()).mean(dtype=np.float64))
        levels = [exposure.light * share for exposure in self.truth.exposures if exposure.lamp]
        return float(1 / np.sqrt(self.detector.gain * sum(levels)))

    def light(self, number: int) -> Image:
        """Return the light of the sources in the science exposure of a number, ADU."""
        light = np.zeros(self.detector.flat.shape, np.float32)
        self.truth.scene(self.chip, self.index(number)).add_to(light)
        return light

    def index(self, number: int) -> int:
        """Return where among all exposures the science exposure of a number stands."""
        return [place for place, exposure in enumerate(self.truth.exposures) if exposure.science][number]

    def sources(self, number: int, above: float) -> NDArray[np.bool_]:
        """Return where sources and cosmic rays of a science exposure are brighter than so many sigma of its noise."""
        index = self.index(number)
        noise = np.sqrt(self.truth.exposures[index].light / self.detector.gain)
        found: NDArray[np.bool_] = self.light(number) > above * noise
        rays = self.truth.rays(self.chip, index)
        found[rays.y, rays.x] = True
        return found


def a_sky_night(folder: Path, *, chip: str, scale: float, seed: int, through: str) -> SkyNight:
    """Return a night of one filter with biases, flats and science frames, and all that is made of them."""
    asked = Night(
        instrument=INSTRUMENTS.get("WFI"),
        chips=(chip,),
        scale=scale,
        seed=seed,
        biases=5,
        domes=FLATS,
        twilights=FLATS,
        sciences=SCIENCES,
        fringes=FRINGES if through == FRINGING else 0.0,
        filter=through,
    )
    truth = write_night(asked, folder / "simulated")
    bench = a_bench(folder, "WFI", truth.night, sorted((folder / "simulated" / "raw").iterdir()))
    for recipe in (*CALIBRATIONS, "FringeFlat" if through == FRINGING else "NightSkyFlat"):
        assert bench.run(recipe), recipe
    return SkyNight(truth, bench, chip)


class NightSkyBars:
    """What must hold of a night-sky flat at any size; a subclass has the fixture `night`."""

    def test_a_night_sky_flat_has_the_noise_of_all_frames(self, night: SkyNight) -> None:
        residual = night.image("NightSkyFlatFrame") / night.response() - 1
        allowance = Allowance(error=night.noise(), times=1.08)
        assert_noise(f"residual of the NightSkyFlatFrame of {night.chip}", rms(residual), allowance)

    def test_sources_are_gone(self, night: SkyNight) -> None:
        footprints = np.any([night.sources(number, FOOTPRINT) for number in range(SCIENCES)], axis=0)
        assert_at_least("part of the pixels on which a source has shone", float(footprints.mean()), 0.01)
        residual = night.image("NightSkyFlatFrame") / night.response() - 1
        error = night.noise() / float(np.sqrt(footprints.sum()))
        allowance = Allowance(
            error=error, times=3, systematic=3e-5, because="0.1 ADU of sources and wings that are lost in the noise"
        )
        shone = np.mean(
            [night.light(number)[footprints].mean() / night.exposures()[number].light for number in range(SCIENCES)]
        )
        print(f"light of all sources there: {shone:.2e} of the sky, predicted error {error:.1e}")
        assert_agrees("mean over the sources", float(residual[footprints].mean()), 0.0, allowance)

    def test_a_good_product_carries_no_flag(self, night: SkyNight) -> None:
        made = night.made("NightSkyFlatFrame")
        assert (made.quality_flags, made.values["NCOMBINE"], made.filter) == (0, SCIENCES, PLAIN)

    def test_a_master_flat_takes_only_the_large_scales_of_the_night_sky(self, night: SkyNight) -> None:
        before = night.image("MasterFlatFrame")
        (made,) = night.bench.run("MasterFlat", pars={"MasterFlatFrame.process_params.NIGHT_SKY": 1})
        after = night.bench.pixels(made)
        assert made.values["NIGHT_SKY"] == 1
        ratio = (after / night.image("NightSkyFlatFrame")).astype(np.float32)
        low = large_scale(ratio, good=night.good)
        assert_at_most("low frequencies off the night sky's", float(np.abs(low / low.mean() - 1).max()), 1e-3)
        small = (after / before)[night.good]
        steps = np.abs(np.diff((after / before), axis=1))[night.good[:, 1:] & night.good[:, :-1]]
        print(f"the flat changes by {rms(small / small.mean() - 1):.2e}, from pixel to pixel by {rms(steps):.2e}")
        assert_at_most("change from pixel to pixel", rms(steps), 0.01 * night.noise())


class FringeBars:
    """What must hold of a fringe frame at any size; a subclass has the fixture `night`."""

    def truth(self, night: SkyNight) -> Image:
        """Return the fringes that the frames have on average, each weighted as its noise is."""
        exposures = night.exposures()
        model = NoiseModel(gain=night.detector.gain, read_noise=night.detector.effective_read_noise)
        weights = [model.relative(exposure.light) ** -2 for exposure in exposures]
        strength = np.average([exposure.fringes for exposure in exposures], weights=weights)
        return np.float32(strength) * night.detector.fringe_shape()

    def test_fringes_are_those_of_the_sky(self, night: SkyNight) -> None:
        fringe, truth = night.image("FringeFrame")[night.good], self.truth(night)[night.good]
        # The frames are divided by a flat, whose noise is theirs then.
        both = float(np.hypot(night.noise(), night.flat_noise()))
        print(f"noise of the raw frames {night.noise():.4%}, of those that the flat has divided {both:.4%}")
        allowance = Allowance(error=both, times=1.1)
        assert_noise(f"residual of the FringeFrame of {night.chip}", rms(fringe - truth), allowance)
        assert_at_least("correlation", float(np.corrcoef(fringe, truth)[0, 1]), 0.95)

    def test_fringes_have_no_mean(self, night: SkyNight) -> None:
        mean = float(night.image("FringeFrame")[night.good].mean())
        assert_agrees("mean, part of the sky", mean, 0.0, Allowance(error=night.noise(), times=0.05))

    def test_the_strength_of_the_fringes_is_told(self, night: SkyNight) -> None:
        wanted = float(self.truth(night)[night.good].std())
        measured = float(night.made("FringeFrame").values["AMPLITUDE"])
        assert_agrees("rms of the fringes", measured, wanted, Allowance(error=0.02 * wanted))

    def test_fringes_of_a_frame_are_taken_off(self, night: SkyNight) -> None:
        fringe, pattern = night.image("FringeFrame"), night.detector.fringe_shape()
        for number in (0, SCIENCES - 1):
            good = night.good & ~night.sources(number, FOOTPRINT / 5)
            image = night.sky(number)
            image -= large_scale(image, good=good, mesh=256)
            found = scaled(image, fringe, good=good, between=BETWEEN, threshold=THRESHOLD)
            left = (image - np.float32(found.scale) * fringe)[good]
            before, after = (np.polyfit(pattern[good], value, 1)[0] for value in (image[good], left))
            print(f"scale {found.scale:.1f} +- {found.error:.1f} ADU, fringes {before:.2f} ADU, then {after:.2f}")
            assert_at_most("fringes left, part of them", float(abs(after / before)), 0.2)

    def test_a_good_product_carries_no_flag(self, night: SkyNight) -> None:
        made = night.made("FringeFrame")
        assert (made.quality_flags, made.values["NCOMBINE"], made.filter) == (0, SCIENCES, FRINGING)

    def test_a_night_sky_flat_of_a_fringing_filter_is_not_used(self, night: SkyNight, caplog) -> None:
        made = night.bench.run("MasterFlat", pars={"MasterFlatFrame.process_params.NIGHT_SKY": 1})
        assert made[0].values["NIGHT_SKY"] == 0
        assert f"The night-sky flat is not used : filter {FRINGING} fringes" in caplog.text
