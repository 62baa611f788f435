"""Stars: round, of one seeing, at the same places of the sky in every exposure; and those of twilight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator

    from dpu_recipes.simulate.detector import Image, Layout

#: A pixel.
DENSITY = 1e-4
#: Of a star in a second, ADU, log-uniform: from what is lost in the noise of a flat to what is saturated.
PEAK = (20.0, 4_000.0)
#: Pixels: full width at half maximum, and where a star's light ends.
SEEING = 4.0
REACH = 40
#: Exponent of Moffat's profile.
BETA = 3.0
#: All light of a star over that in its middle, pixels^2, but for what REACH cuts off (0.004 %).
PEAK_FLUX = np.pi * SEEING**2 / (4 * (2 ** (1 / BETA) - 1)) / (BETA - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stars:
    """The stars whose light reaches one CCD in one exposure."""

    #: (n,) float32, in the pixels that see light; a centre may lie outside of them.
    y: Image
    x: Image
    #: (n,) float32: light in the middle of each, ADU.
    peak: Image

    def add_to(self, light: Image) -> None:
        """Add their light to `light` : (y, x) float32, ADU, in place."""
        for y, x, peak in zip(self.y, self.x, self.peak, strict=True):
            rows = slice(max(round(float(y)) - REACH, 0), max(round(float(y)) + REACH + 1, 0))
            columns = slice(max(round(float(x)) - REACH, 0), max(round(float(x)) + REACH + 1, 0))
            part = light[rows, columns]
            down = np.arange(rows.start, rows.start + part.shape[0], dtype=np.float32)[:, None] - y
            along = np.arange(columns.start, columns.start + part.shape[1], dtype=np.float32)[None, :] - x
            part += peak * profile(down**2 + along**2)


NONE: Final = Stars(y=np.zeros(0, np.float32), x=np.zeros(0, np.float32), peak=np.zeros(0, np.float32))


def profile(squared: Image) -> Image:
    """Return Moffat's profile, 1 in the middle, at `squared` distances, pixels^2; 0 beyond REACH.

    References
    ----------
    Moffat, A. F. J., 1969, A&A 3, 455.
    """
    width = SEEING**2 / (4 * (2 ** (1 / BETA) - 1))
    shape: Image = (1 + squared / np.float32(width)) ** np.float32(-BETA)
    shape *= squared <= REACH**2
    return shape


def seen(layout: Layout, seconds: float, dither: tuple[float, float], generator: Generator) -> Stars:
    """Return the stars of a field, which `generator` draws the same each time, as one exposure sees them."""
    # The field is wider than the CCD by what any dither may bring in.
    margin = 4 * REACH
    height, width = layout.rows + 2 * margin, layout.columns + 2 * margin
    count = generator.poisson(DENSITY * height * width)
    y = generator.uniform(-margin, layout.rows + margin, count) + dither[0]
    x = generator.uniform(-margin, layout.columns + margin, count) + dither[1]
    low, high = PEAK
    peak = seconds * low * (high / low) ** generator.uniform(0, 1, count)
    near = (y > -REACH) & (y < layout.rows + REACH) & (x > -REACH) & (x < layout.columns + REACH)
    return Stars(y=y[near].astype(np.float32), x=x[near].astype(np.float32), peak=peak[near].astype(np.float32))
