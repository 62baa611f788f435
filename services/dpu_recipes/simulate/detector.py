"""The truth of one simulated CCD: what it adds to an exposure, and how its light is lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from dpu_recipes.frames import Regions, Strips

Image: TypeAlias = "NDArray[np.float32]"

#: Variance that rounding to whole ADU adds, ADU^2 (a uniform error of one ADU's width).
ROUNDING = 1 / 12

#: Light, ADU, of which `Detector.nonlinearity` is lost.
NONLINEAR_AT = 50_000.0

#: Light, ADU, that a pixel keeps; what is more runs along its column.
WELL = 62_000.0

#: By how much fringes bend to and fro over eight periods, radians.
FRINGE_BEND = np.float32(2)

#: By overscan method: the axes that it averages along, both for a constant, and the strip that it looks at.
METHODS: Mapping[int, tuple[tuple[int, ...], str]] = {
    1: ((0, 1), "prescan_x"),
    2: ((0, 1), "overscan_x"),
    3: ((0, 1), "prescan_y"),
    4: ((0, 1), "overscan_y"),
    5: ((1,), "prescan_x"),
    6: ((1,), "overscan_x"),
    7: ((0,), "prescan_y"),
    8: ((0,), "overscan_y"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where on a raw frame the light falls. Pixels as read out."""

    #: Rows and columns that see light.
    rows: int
    columns: int
    strips: Strips

    @property
    def shape(self) -> tuple[int, int]:
        """Return (y, x) of the whole raw frame."""
        strips = self.strips
        return (
            strips.prescan_y + self.rows + strips.overscan_y,
            strips.prescan_x + self.columns + strips.overscan_x,
        )

    @property
    def regions(self) -> Regions:
        """Return where light and strips are, as (y, x) slices of the whole raw frame."""
        return self.strips.regions(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """One CCD with everything about it that a recipe may find out. Arrays are (y, x), ADU where not said."""

    chip: str
    layout: Layout
    #: ADU and electrons per ADU.
    read_noise: float
    gain: float
    #: Mean of the bias, ADU.
    level: float
    #: Noise of a pixel in the mean of the night's biases by method 6, fixed pattern included: the unit of `hot`.
    sigma: float
    #: (y of the whole frame,) float32: what a row has in light and strips alike, so that strips in x carry it.
    row_pattern: Image
    #: (x of the whole frame,) float32: what a column has, zero in the strips in x; strips in y carry it.
    column_pattern: Image
    #: float32, of the pixels that see light: smooth, and carried by no strip.
    surface: Image
    #: float32, of the pixels that see light: what hot pixels have more than the others, which have 0.
    hot: Image
    #: float32, of the pixels that see light: how much of the light each gives; the mean is 1.
    flat: Image
    #: The lamp's light over the sky's: in the middle of the CCD, and what it gains from the first row (column) to
    #: the last.
    lamp: tuple[float, float, float] = (1.0, 0.0, 0.0)
    #: The fringes' period, pixels, their direction from y to x and two phases, radians: `fringe_shape`.
    fringe: tuple[float, float, float, float] = (40.0, 0.0, 0.0, 0.0)
    #: Part of the light that is not counted, of NONLINEAR_AT ADU; it grows with the light.
    nonlinearity: float = 0.0

    @property
    def effective_read_noise(self) -> float:
        """Return the noise of a pixel without light, rounding included, ADU."""
        return float(np.sqrt(self.read_noise**2 + ROUNDING))

    def counted(self, light: Image) -> Image:
        """Return what is counted of `light`, ADU: L (1 - nonlinearity L / NONLINEAR_AT)."""
        counted: Image = light * (1 - np.float32(self.nonlinearity / NONLINEAR_AT) * light)
        return counted

    def kept(self, light: Image) -> Image:
        """Return what is counted of `light`, ADU, where each pixel keeps WELL: the rest ran along its column."""
        counted = self.counted(light)
        return bled(counted, WELL) if counted.max() > WELL else counted

    def fringe_shape(self) -> Image:
        """Return the fringes on the pixels that see light, their mean 0 and rms 1: bent, but nowhere closed."""
        period, angle, start, bend = self.fringe
        y = np.arange(self.layout.rows, dtype=np.float32)[:, None]
        x = np.arange(self.layout.columns, dtype=np.float32)[None, :]
        turn = np.float32(2 * np.pi / period)
        along = y * np.float32(np.cos(angle)) + x * np.float32(np.sin(angle))
        across = x * np.float32(np.cos(angle)) - y * np.float32(np.sin(angle))
        shape: Image = np.sqrt(np.float32(2)) * np.cos(
            turn * along + np.float32(start) + FRINGE_BEND * np.sin(turn / 8 * across + np.float32(bend))
        )
        return shape

    def lamp_shape(self) -> Image:
        """Return how much of the lamp's light falls on each pixel that sees light, against an even sky."""
        middle, along_y, along_x = self.lamp
        y = np.linspace(-0.5, 0.5, self.layout.rows, dtype=np.float32)
        x = np.linspace(-0.5, 0.5, self.layout.columns, dtype=np.float32)
        shape: Image = (np.float32(middle) + np.float32(along_y) * y)[:, None] + np.float32(along_x) * x[None, :]
        return shape

    def pattern(self) -> Image:
        """Return the whole frame of a bias without noise and without drift."""
        frame = np.full(self.layout.shape, self.level, dtype=np.float32)
        frame += self.row_pattern[:, None]
        frame += self.column_pattern[None, :]
        light: Image = frame[self.layout.regions.data]
        light += self.surface
        light += self.hot
        return frame

    def bias(self, method: int = 6) -> Image:
        """Return a bias without noise, trimmed, the overscan taken off by method 0 ... 8. Raises ValueError."""
        frame = self.pattern()
        light: Image = frame[self.layout.regions.data]
        if method == 0:
            return light
        if method not in METHODS:
            raise ValueError(f"overscan method {method} is not one of 0 ... 8, whose truth is known")
        axes, strip = METHODS[method]
        values: Image = frame[getattr(self.layout.regions, strip)]
        if not values.size:
            raise ValueError(f"overscan method {method} needs {strip}, and {self.chip} has none")
        light -= values.mean(axis=axes, keepdims=True, dtype=np.float64).astype(np.float32)
        return light


def bled(light: Image, well: float) -> Image:
    """Return `light` : (y, x) float32, ADU, where no pixel has more than `well`.

    One half of what it has more runs up its column and one half down, each to the first pixels that have room; beyond
    the ends of the column it is lost.
    """
    found: Image = np.minimum(light, np.float32(well))
    columns = np.flatnonzero((light > well).any(axis=0))
    part = found[:, columns]
    excess = (light[:, columns] - part) / 2
    for order in (range(len(part)), range(len(part) - 1, -1, -1)):
        running = np.zeros(columns.size, np.float32)
        for y in order:
            running += excess[y]
            room = np.minimum(running, np.float32(well) - part[y])
            part[y] += room
            running -= room
    found[:, columns] = part
    return found
