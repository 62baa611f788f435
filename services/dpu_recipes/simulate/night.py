"""A night to simulate: of which CCDs, which exposures, at which times, from which random numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np

from dpu_recipes.night import midnight_of
from dpu_recipes.simulate import draw
from dpu_recipes.simulate.detector import Layout
from dpu_recipes.simulate.exposure import READ_OUT, Exposure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpu_recipes.instrument import Chip, Instrument
    from dpu_recipes.simulate.detector import Detector, Image

#: From midnight back to the first calibration: before sunset at any season, and in the same night.
AFTERNOON = timedelta(hours=9)
#: Mean light of a dome flat, ADU, amid the 20,000 to 30,000 that flats should have; the lamp's drift; its ADU a second.
DOME_LIGHT = 25_000.0
LAMP_DRIFT = 0.01
DOME_RATE = 2_000.0
#: Of the light in the middle of the focal plane, what its corners lose.
VIGNETTING = 0.15
#: Biases by whose mean hot pixels are scaled in a night that has none.
REFERENCE_BIASES = 10
#: Fewer pixels on a side hold no background mesh.
SMALLEST = 64


class BadNight(ValueError):
    """The night asked for cannot be; the message quotes what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What to simulate."""

    instrument: Instrument
    #: Names; the same chip is the same in every night of one seed, size and number of biases.
    chips: tuple[str, ...]
    #: Of each side of a CCD; strips keep their widths.
    scale: float = 1.0
    seed: int = 1
    biases: int = 10
    domes: int = 0
    date: date = field(default=date(2000, 4, 28))
    #: In the beam; biases carry its name too, as real ones do.
    filter: str = "#842"

    def __post_init__(self) -> None:
        """Refuse a night without exposures, chips or pixels."""
        if min(self.biases, self.domes) < 0 or not self.biases + self.domes:
            raise BadNight(f"{self.biases} biases and {self.domes} dome flats: at least one exposure is needed")
        if not self.chips:
            raise BadNight("no chip was asked for: at least one is needed")
        for name in self.chips:
            self.instrument.chip(name)
            if self.chips.count(name) > 1:
                raise BadNight(f"chip {name!r} was asked for more than once")
        if self.seed < 0:
            raise BadNight(f"seed {self.seed} is negative")
        if not 0 < self.scale <= 1 or min(self.layout.rows, self.layout.columns) < SMALLEST:
            raise BadNight(f"scale {self.scale:g} is not in 0 ... 1 or leaves less than {SMALLEST} pixels on a side")

    @property
    def layout(self) -> Layout:
        """Return where on each CCD the light falls."""
        columns, rows = (round(size * self.scale) for size in self.instrument.chip_size)
        return Layout(rows=rows, columns=columns, strips=self.instrument.strips)

    def exposures(self) -> list[Exposure]:
        """Return the exposures in order: biases, then dome flats."""
        clock = midnight_of(self.date, self.instrument.longitude_deg) - AFTERNOON
        clock = clock.replace(microsecond=0)
        exposures = []
        for exposure in self._asked():
            exposures.append(exposure.at(clock))
            clock += timedelta(seconds=exposure.exptime + READ_OUT + 3.141)
        return exposures

    def detector(self, chip: str) -> Detector:
        """Return one of its CCDs, with everything about it."""
        shading = illumination(self.instrument, self.instrument.chip(chip), self.layout) if self.domes else None
        return draw.detector(chip, self.layout, self.biases or REFERENCE_BIASES, shading, self.generator(chip, 0))

    def generator(self, chip: str, stream: int) -> np.random.Generator:
        """Return the random numbers of a chip: stream 0 draws it, 1 its drifts, 2 ... its frames in order."""
        index = self.instrument.chip_names().index(chip)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(index, stream)))

    def _asked(self) -> Iterator[Exposure]:
        """Yield the exposures; their times are set by who takes them."""
        lamp = np.random.default_rng(np.random.SeedSequence(self.seed))
        for _ in range(self.biases):
            yield Exposure(frame_class="RawBiasFrame", object="BIAS", filter=self.filter)
        for _ in range(self.domes):
            light = DOME_LIGHT * lamp.uniform(1 - LAMP_DRIFT, 1 + LAMP_DRIFT)
            yield Exposure(
                frame_class="RawDomeFlatFrame",
                object="DOME FLAT",
                filter=self.filter,
                exptime=DOME_LIGHT / DOME_RATE,
                light=float(light),
            )


def illumination(instrument: Instrument, chip: Chip, layout: Layout) -> Image:
    """Return (y, x) float32: the light on a chip, 1 in the middle of the focal plane and less to its corners."""
    across = max(each.column for each in instrument.chips) + 1
    up = max(each.row for each in instrument.chips) + 1
    y = (chip.row + np.linspace(0, 1, layout.rows)) / up - 0.5
    x = (chip.column + np.linspace(0, 1, layout.columns)) / across - 0.5
    across_rows = (1 - 2 * VIGNETTING * y**2).astype(np.float32)
    along_rows = (2 * VIGNETTING * x**2).astype(np.float32)
    return across_rows[:, None] - along_rows[None, :]
