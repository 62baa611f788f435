"""A night to simulate: of which CCDs, which exposures, at which times, from which random numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from dataclasses import field as attribute
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np

from dpu_recipes.night import midnight_of
from dpu_recipes.simulate import draw, field, optics, scene, standards, stars, tracks
from dpu_recipes.simulate.detector import Layout
from dpu_recipes.simulate.exposure import READ_OUT, Exposure
from dpu_recipes.simulate.flaw import FLAWS, spoiled
from dpu_recipes.simulate.optics import Optics
from dpu_recipes.simulate.plane import mosaic, stand
from dpu_recipes.simulate.scene import EMPTY, Scene

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dpu_recipes.instrument import Chip, Instrument
    from dpu_recipes.simulate.detector import Detector, Image
    from dpu_recipes.simulate.field import Field

#: From midnight back to the first calibration: before sunset at any season, and in the same night.
AFTERNOON = timedelta(hours=9)
#: Mean light of a dome flat, ADU, amid the 20,000 to 30,000 that flats should have; the lamp's drift; its ADU a second.
DOME_LIGHT = 25_000.0
LAMP_DRIFT = 0.01
DOME_RATE = 2_000.0
#: By how much the lamp's light differs from one edge of the focal plane to the other: drawn within +- this.
LAMP_GRADIENT = 0.16
#: Mean light of the first twilight flat of an evening and of the last, ADU, and the seconds of the first.
TWILIGHT_LIGHT = (29_000.0, 21_000.0)
TWILIGHT_SECONDS = 5.0
#: Rms of the telescope's offsets between exposures of the sky, pixels: stars fall elsewhere on the CCD.
DITHER = 50.0
#: The field of a night: its middle, ICRS, degrees. How far a header is off where the telescope points, arcsec, rms.
FIELD = (53.1, -27.8)
POINTING_ERROR = 2.0
#: Of a science exposure; the first begins so long before midnight.
SCIENCE_SECONDS, EVENING = 300.0, timedelta(hours=4)
#: Light of the night sky, ADU.
SKY = 3_000.0
#: Of the light of the night sky, and of its fringes, by how much exposures differ either way, part of it.
SKY_CHANGE, FRINGE_CHANGE = 0.1, 0.15
#: Periods of fringes, pixels.
FRINGE_PERIOD = (25.0, 45.0)
#: Pixels between the CCDs of a whole mosaic.
GAP = 60.0
#: Of the light in the middle of the focal plane, what its corners lose.
VIGNETTING = 0.15
#: Biases by whose mean hot pixels are scaled in a night that has none.
REFERENCE_BIASES = 10
#: Largest nonlinearity: with more, bright light would be counted as less than dim light.
STEEPEST = 0.3
#: Fringes of more would leave no light between them.
MOST_FRINGES = 0.5
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
    #: ADU: dome flats have these one after another, as many of each as their number allows.
    dome_levels: tuple[float, ...] = (DOME_LIGHT,)
    #: From one dome flat to the next, the lamp differs by at most this part of its light, either way.
    lamp_drift: float = LAMP_DRIFT
    #: Of each CCD (`Detector.nonlinearity`).
    nonlinearity: float = 0.0
    twilights: int = 0
    #: Whether twilight falls (its flats grow dimmer) or rises.
    dawn: bool = False
    sciences: int = 0
    standards: int = 0
    #: Of a science exposure: the light of the sky, ADU, and the rms of its fringes, part of it.
    sky: float = SKY
    fringes: float = 0.0
    #: One of FLAWS: what went wrong with the lit exposures.
    flaw: str = ""
    date: date = attribute(default=date(2000, 4, 28))
    #: In the beam; biases carry its name too, as real ones do.
    filter: str = "#842"

    def __post_init__(self) -> None:
        """Refuse a night without exposures, chips or pixels."""
        numbers = (self.biases, self.domes, self.twilights, self.sciences, self.standards)
        if min(numbers) < 0 or not any(numbers):
            raise BadNight(
                f"{self.biases} biases, {self.domes} dome flats, {self.twilights} twilight flats, "
                f"{self.sciences} science exposures and {self.standards} of standards: at least one is needed"
            )
        self._check_light()
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

    def _check_light(self) -> None:
        """Refuse lamps and losses of light that cannot be."""
        if not self.dome_levels or not all(level > 0 for level in self.dome_levels):
            raise BadNight(f"levels of dome flats {self.dome_levels}: one or more above 0 ADU are needed")
        if not 0 <= self.lamp_drift < 1:
            raise BadNight(f"lamp drift {self.lamp_drift:g} is not in 0 ... 1")
        if not (self.sky > 0 and 0 <= self.fringes < MOST_FRINGES):
            raise BadNight(
                f"a sky of {self.sky:g} ADU with fringes of {self.fringes:g}: "
                f"above 0 and within 0 ... {MOST_FRINGES:g} are needed"
            )
        if not 0 <= self.nonlinearity <= STEEPEST:
            raise BadNight(f"nonlinearity {self.nonlinearity:g} is not in 0 ... {STEEPEST:g}")
        if self.flaw and self.flaw not in FLAWS:
            raise BadNight(f"flaw {self.flaw!r} is not one of {', '.join(FLAWS)}")

    @property
    def layout(self) -> Layout:
        """Return where on each CCD the light falls."""
        columns, rows = (round(size * self.scale) for size in self.instrument.chip_size)
        return Layout(rows=rows, columns=columns, strips=self.instrument.strips)

    def exposures(self) -> list[Exposure]:
        """Return the exposures in order: biases, dome flats, twilight flats, standards, science exposures."""
        midnight = midnight_of(self.date, self.instrument.longitude_deg).replace(microsecond=0)
        clock = midnight - AFTERNOON
        planned = [*self._biases(), *self._domes(), *self._twilights(), *self._standards(), *self._sciences()]
        exposures = []
        for exposure in spoiled(planned, self.flaw):
            if exposure.science or exposure.standard:
                clock = max(clock, midnight - EVENING)
            exposures.append(exposure.at(clock))
            clock += timedelta(seconds=exposure.exptime + READ_OUT + 3.141)
        return exposures

    def detector(self, chip: str) -> Detector:
        """Return one of its CCDs, with everything about it."""
        lit = self.domes or self.twilights or self.sciences or self.standards
        place = self.instrument.chip(chip)
        shading = illumination(self.instrument, place, self.layout) if lit else None
        drawn = draw.detector(chip, self.layout, self.biases or REFERENCE_BIASES, shading, self.generator(chip, 0))
        return replace(drawn, lamp=self._lamp(place), nonlinearity=self.nonlinearity, fringe=self._fringe(chip))

    def field(self) -> Field:
        """Return what is on the sky where science exposures look."""
        return self._drawn_field(FIELD, 2)

    def standard_field(self) -> Field:
        """Return what is on the sky where standards are, as it is above the atmosphere."""
        return standards.added(self._drawn_field(standards.CENTRE, 5))

    def _drawn_field(self, centre: tuple[float, float], stream: int) -> Field:
        up, across = mosaic(self.instrument)
        margin = 8 * DITHER
        size = (up * (self.layout.rows + GAP) + margin, across * (self.layout.columns + GAP) + margin)
        return field.drawn(centre, size, self._pixel_deg, self._sky_generator(stream))

    def optics(self, chip: str) -> Optics:
        """Return how the sky is mapped onto one CCD."""
        place, layout, (up, across) = self.instrument.chip(chip), self.layout, mosaic(self.instrument)
        pitch = (layout.rows + GAP * self.scale, layout.columns + GAP * self.scale)
        here = stand(self.instrument, place)
        # The axis is in the middle of the mosaic; (0, 0) is the middle of the CCD's first pixel.
        y, x = (
            first / (first - last) * step - GAP * self.scale / 2 - 0.5
            for (first, last), step in zip((here.rows, here.columns), pitch, strict=True)
        )
        turn, shift = optics.put_in(self.generator(chip, 0, 1))
        return Optics(
            pixel_deg=self._pixel_deg,
            axis=(y, x),
            distortion=float(self._sky_generator(3).uniform(*optics.DISTORTION)),
            reach=float(np.hypot(up * pitch[0], across * pitch[1])) / 2,
            turn=turn,
            shift=shift,
            rotation=place.rotation,
        )

    def scenes(self, chip: str, exposures: Sequence[Exposure]) -> Iterator[Scene]:
        """Yield the sources in one CCD of each of the night's exposures."""
        sky = self.field() if self.sciences else None
        calm = self.standard_field() if self.standards else None
        through = self.optics(chip)
        for number, exposure in enumerate(exposures):
            if exposure.frame_class == "RawTwilightFlatFrame":
                generator = self.generator(chip, 0, 0)
                dither = through.turned(*exposure.dither)
                yield Scene(stars=stars.seen(self.layout, exposure.exptime, dither, generator))
            elif exposure.standard and calm is not None:
                yield scene.seen(standards.dimmed(calm, exposure.airmass), through, self.layout, exposure, EMPTY.tracks)
            elif exposure.science and sky is not None:
                noise = float(np.sqrt(self.sky / np.mean(draw.GAIN)))
                trails = tracks.thrown(through, noise, self._sky_generator(4, number))
                yield scene.seen(sky, through, self.layout, exposure, trails)
            else:
                yield EMPTY

    def generator(self, chip: str, *stream: int) -> np.random.Generator:
        """Return random numbers of a chip.

        Stream 0 draws it (0, 0: its stars in twilight; 0, 1: its optics; 0, 2: its fringes), 1 its drifts, 2 ... its
        frames.
        """
        index = self.instrument.chip_names().index(chip)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(index, *stream)))

    @property
    def _pixel_deg(self) -> float:
        return self.instrument.pixel_arcsec / 3600

    def _sky_generator(self, stream: int, number: int = 0) -> np.random.Generator:
        """Return random numbers of what all chips share: no chip's streams are of four numbers."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(0, 0, stream, number)))

    def _fringe(self, chip: str) -> tuple[float, float, float, float]:
        generator = self.generator(chip, 0, 2)
        period, (angle, start, bend) = generator.uniform(*FRINGE_PERIOD), generator.uniform(0, np.pi, 3)
        return float(period), float(angle), float(start), float(bend)

    def _lamp(self, chip: Chip) -> tuple[float, float, float]:
        """Return the lamp's light on a chip (`Detector.lamp`): it falls off evenly across the focal plane."""
        along = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(0,)))
        slope_y, slope_x = along.uniform(-LAMP_GRADIENT, LAMP_GRADIENT, 2)
        here = stand(self.instrument, chip)
        # What it gains along the chip's rows, and along its columns.
        slopes = (slope_x, slope_y) if here.across else (slope_y, slope_x)
        sides = [(slope, *side) for slope, side in zip(slopes, (here.rows, here.columns), strict=True)]
        middle = 1 + sum(slope * (first + last) / 2 for slope, first, last in sides)
        along_y, along_x = (float(slope * (last - first)) for slope, first, last in sides)
        return float(middle), along_y, along_x

    def _biases(self) -> Iterator[Exposure]:
        """Yield the biases; the times of all exposures are set by who takes them."""
        for _ in range(self.biases):
            yield Exposure(frame_class="RawBiasFrame", object="BIAS", filter=self.filter)

    def _domes(self) -> Iterator[Exposure]:
        lamp = np.random.default_rng(np.random.SeedSequence(self.seed))
        for number in range(self.domes):
            level = self.dome_levels[number * len(self.dome_levels) // self.domes]
            yield Exposure(
                frame_class="RawDomeFlatFrame",
                object="DOME FLAT",
                filter=self.filter,
                exptime=level / DOME_RATE,
                light=float(level * lamp.uniform(1 - self.lamp_drift, 1 + self.lamp_drift)),
            )

    def _twilights(self) -> Iterator[Exposure]:
        """Yield twilight flats: the sky fades faster than the observer exposes longer; at dawn the other way round."""
        telescope = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(1,)))
        levels = np.geomspace(*TWILIGHT_LIGHT, self.twilights)
        for level in levels[::-1] if self.dawn else levels:
            y, x = telescope.normal(0, DITHER, 2)
            yield Exposure(
                frame_class="RawTwilightFlatFrame",
                object="SKY FLAT",
                filter=self.filter,
                exptime=round(TWILIGHT_SECONDS * TWILIGHT_LIGHT[0] / float(level), 1),
                light=float(level),
                dither=(float(y), float(x)),
            )

    def _sciences(self) -> Iterator[Exposure]:
        """Yield exposures of the field, each a little off the last, of a sky and of fringes that change."""
        telescope = self._sky_generator(1)
        for _ in range(self.sciences):
            pointed = self._pointed(telescope, FIELD)
            yield replace(
                pointed,
                frame_class="RawScienceFrame",
                object="FIELD_1",
                exptime=SCIENCE_SECONDS,
                light=float(self.sky * telescope.uniform(1 - SKY_CHANGE, 1 + SKY_CHANGE)),
                fringes=float(self.fringes * telescope.uniform(1 - FRINGE_CHANGE, 1 + FRINGE_CHANGE)),
            )

    def _standards(self) -> Iterator[Exposure]:
        """Yield exposures of the standard field, each through more air than the one before."""
        telescope = self._sky_generator(6)
        for airmass in np.linspace(*standards.AIRMASSES, self.standards):
            yield replace(
                self._pointed(telescope, standards.CENTRE),
                frame_class="RawStandardFrame",
                object=standards.NAME,
                exptime=standards.SECONDS,
                light=self.sky * standards.SECONDS / SCIENCE_SECONDS,
                airmass=float(airmass),
            )

    def _pointed(self, telescope: np.random.Generator, centre: tuple[float, float]) -> Exposure:
        """Return an exposure a little off a place on the sky; its header is a little off that."""
        y, x = telescope.normal(0, DITHER, 2)
        # The image moves down where the telescope moves north, and to the left where it moves west.
        offset = field.deprojected(np.array(x * self._pixel_deg), np.array(-y * self._pixel_deg), centre)
        pointing = (float(offset[0]), float(offset[1]))
        error = telescope.normal(0, POINTING_ERROR / 3600, 2)
        return Exposure(
            frame_class="RawScienceFrame",
            filter=self.filter,
            dither=(float(y), float(x)),
            pointing=pointing,
            header_pointing=(
                pointing[0] + float(error[0]) / float(np.cos(np.radians(pointing[1]))),
                pointing[1] + float(error[1]),
            ),
        )


def illumination(instrument: Instrument, chip: Chip, layout: Layout) -> Image:
    """Return (y, x) float32: the light on a chip, 1 in the middle of the focal plane and less to its corners."""
    here = stand(instrument, chip)
    y, x = np.linspace(*here.rows, layout.rows), np.linspace(*here.columns, layout.columns)
    across_rows = (1 - 2 * VIGNETTING * y**2).astype(np.float32)
    along_rows = (2 * VIGNETTING * x**2).astype(np.float32)
    return across_rows[:, None] - along_rows[None, :]
