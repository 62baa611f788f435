"""The bars of gain and linearity against the simulator's truth: one suite for every size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dpu_recipes.ccd.linearity import Linearity
from dpu_recipes.simulate import Night, Truth, write_night
from dpu_recipes.testing import Allowance, assert_agrees, assert_at_most
from fakes_science import INSTRUMENTS, Bench, a_bench

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from dpu_recipes.frames import Frame
    from dpu_recipes.simulate import Detector

#: ADU: two flats of each. The brightest are beyond 60 % of a full pixel, and count for linearity alone.
LEVELS = (2_000.0, 4_000.0, 7_000.0, 11_000.0, 16_000.0, 22_000.0, 28_000.0, 36_000.0, 41_000.0, 46_000.0)
#: Part of the light that is not counted at 50,000 ADU, and of a lamp that is steady enough to measure it.
NONLINEARITY, LAMP_DRIFT = 0.03, 0.001
#: ADU: 80 % of a full pixel, to which linearity is told.
UP_TO = 48_000.0


@dataclass(frozen=True)
class GainNight:
    """A simulated night of one chip, and its GainLinearity."""

    truth: Truth
    bench: Bench
    chip: str
    product: Frame

    @cached_property
    def detector(self) -> Detector:
        """Return the chip as it was drawn."""
        return self.truth.detector(self.chip)

    def levels(self) -> NDArray[np.float32]:
        """Return what is truly counted of each level of light, ADU."""
        share = float((self.detector.flat * self.detector.lamp_shape()).mean(dtype=np.float64))
        return self.detector.counted(np.array(LEVELS, np.float32) * np.float32(share))

    def value(self, name: str) -> float:
        """Return one of the values of the product."""
        return float(self.product.values[name])

    def linearity(self) -> Linearity:
        """Return the linearity as who uses the product has it."""
        return Linearity(
            first=self.value("LINEARITY1"),
            second=self.value("LINEARITY2"),
            scatter=self.value("LINEARITY_SCATTER"),
            error=self.value("LINEARITY_ERROR"),
            highest=self.value("LINEARITY_HIGHEST"),
        )


def a_gain_night(folder: Path, *, chip: str, scale: float, seed: int, biases: int = 5) -> GainNight:
    """Return a night of biases and two flats of each level, and what Gain makes of it."""
    asked = Night(
        instrument=INSTRUMENTS.get("WFI"),
        chips=(chip,),
        scale=scale,
        seed=seed,
        biases=biases,
        domes=2 * len(LEVELS),
        dome_levels=LEVELS,
        lamp_drift=LAMP_DRIFT,
        nonlinearity=NONLINEARITY,
    )
    truth = write_night(asked, folder / "simulated")
    bench = a_bench(folder, "WFI", truth.night, sorted((folder / "simulated" / "raw").iterdir()))
    for recipe in ("ReadNoise", "Bias"):
        assert bench.run(recipe), recipe
    (product,) = bench.run("Gain")
    return GainNight(truth, bench, chip, product)


class GainBars:
    """What must hold of a night at any size; a subclass has the fixture `night`, and what the gain may be off by."""

    #: Part of the gain.
    allowed: float

    def test_the_gain_is_the_true_one(self, night: GainNight) -> None:
        print(f"noise predicts {night.value('GAIN_ERROR') / night.detector.gain:.3%}, bar {self.allowed:.1%}")
        allowance = Allowance(error=self.allowed * night.detector.gain)
        assert_agrees(f"gain of {night.chip}, e-/ADU", night.value("GAIN"), night.detector.gain, allowance)

    def test_the_error_of_the_gain_is_told(self, night: GainNight) -> None:
        allowance = Allowance(error=night.value("GAIN_ERROR"), times=4)
        assert_agrees(f"gain of {night.chip}, e-/ADU", night.value("GAIN"), night.detector.gain, allowance)
        assert_at_most("its error, part of it", night.value("GAIN_ERROR") / night.value("GAIN"), self.allowed)

    def test_pairs_beyond_60_percent_of_a_full_pixel_do_not_count(self, night: GainNight) -> None:
        limit = 0.6 * (60_000 - night.detector.level)
        # The lamp's drift may lift a pair that is as bright as the limit above it.
        surely, perhaps = (int(np.sum(night.levels() <= limit * (1 + off))) for off in (-LAMP_DRIFT, LAMP_DRIFT))
        assert 6 <= surely <= night.value("NPAIRS") <= perhaps < len(LEVELS)
        assert night.value("NREFUSED") == 0

    def test_light_is_linear_up_to_80_percent_of_a_full_pixel(self, night: GainNight) -> None:
        light = np.linspace(UP_TO / 100, UP_TO, 100)
        ratio = night.linearity().corrected(night.detector.counted(light)) / light
        print(
            f"noise predicts {night.value('LINEARITY_ERROR'):.3%}; not corrected: {NONLINEARITY * UP_TO / 50_000:.1%}"
        )
        assert_at_most("flux error, part of the light", float(np.abs(ratio / ratio[0] - 1).max()), 2e-3)

    def test_a_good_product_carries_no_flag(self, night: GainNight) -> None:
        assert night.product.quality_flags == 0
