"""Galaxies: Sersic's profile, blurred by the same seeing as the stars."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from dpu_recipes.simulate.stars import SEEING, profile

if TYPE_CHECKING:
    from dpu_recipes.simulate.detector import Image

#: Radii that hold half of the light, beyond which there is none.
REACH = 5.0
#: Points a pixel on which a profile is sampled.
FINE = 3
#: In units of the seeing: where a blurred point ends.
BLUR = 5.0


@dataclass(frozen=True, slots=True)
class Shape:
    """What a galaxy looks like, wherever it is and however bright; as in `Field`."""

    radius: float
    index: float
    ratio: float
    angle: float

    def stamp(self, y: float, x: float) -> Image:
        """Return its light, all of it 1, with its centre at (`y`, `x`) in 0 ... 1 of the middle pixel and the next.

        References
        ----------
        Ciotti, L. and Bertin, G., 1999, A&A 352, 447 (the constant of Sersic's profile).
        """
        from scipy.signal import fftconvolve

        half = math.ceil(REACH * self.radius + BLUR * SEEING)
        points = ((np.arange(FINE * (2 * half + 1)) + 0.5) / FINE - 0.5 - half).astype(np.float32)
        down, along = points[:, None] - np.float32(y), points[None, :] - np.float32(x)
        major = along * math.cos(self.angle) + down * math.sin(self.angle)
        minor = (down * math.cos(self.angle) - along * math.sin(self.angle)) / self.ratio
        distance = np.hypot(major, minor) / self.radius
        constant = 2 * self.index - 1 / 3 + 4 / (405 * self.index)
        fine = np.exp(-constant * distance ** (1 / self.index)) * (distance <= REACH)
        reach = math.ceil(BLUR * SEEING * FINE)
        across = np.arange(-reach, reach + 1, dtype=np.float32) / FINE
        squared = (across[:, None] ** 2 + across[None, :] ** 2).astype(np.float32)
        blurred = fftconvolve(fine, profile(squared), mode="same")
        binned: Image = blurred.reshape(2 * half + 1, FINE, 2 * half + 1, FINE).sum(axis=(1, 3)).astype(np.float32)
        binned /= binned.sum()
        return binned


@dataclass(frozen=True, slots=True, kw_only=True)
class Galaxies:
    """The galaxies whose light reaches one CCD in one exposure. Arrays are (n,) float32."""

    #: In the pixels that see light; a centre may lie outside of them.
    y: Image
    x: Image
    #: All light, ADU.
    flux: Image
    #: As in `Field`.
    radius: Image
    index: Image
    ratio: Image
    angle: Image

    def add_to(self, light: Image) -> None:
        """Add their light to `light` : (y, x) float32, ADU, in place."""
        shapes = zip(self.radius, self.index, self.ratio, self.angle, strict=True)
        for y, x, flux, shape in zip(self.y, self.x, self.flux, shapes, strict=True):
            stamp = Shape(*map(float, shape)).stamp(float(y) % 1, float(x) % 1)
            _add(light, float(y), float(x), float(flux) * stamp)


NONE: Final = Galaxies(
    **dict.fromkeys(("y", "x", "flux", "radius", "index", "ratio", "angle"), np.zeros(0, np.float32))
)


def _add(light: Image, y: float, x: float, image: Image) -> None:
    """Add a stamp to `light`, its middle pixel at the whole part of (`y`, `x`)."""
    half = len(image) // 2
    top, left = math.floor(y) - half, math.floor(x) - half
    rows = slice(max(top, 0), max(top + len(image), 0))
    columns = slice(max(left, 0), max(left + len(image), 0))
    part = light[rows, columns]
    part += image[rows.start - top :, columns.start - left :][: part.shape[0], : part.shape[1]]
