"""The field that science exposures look at: stars and galaxies, by their places on the sky."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

#: A pixel of the focal plane.
STARS, GALAXIES = 1.3e-4, 0.3e-4
#: Light of a source in a second, ADU: magnitudes 24.5 to 15.5, where one of 24.5 gives 1 ADU.
FLUX = (1.0, 4_000.0)
#: N(brighter than F) goes as F to the minus this: counts grow by a factor of 2 a magnitude.
SLOPE = 0.75
#: Of galaxies: pixels that hold half of the light, Sersic's index, axis ratio.
RADIUS = (2.0, 8.0)
INDEX = (0.8, 5.0)
RATIO = (0.3, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Sources on the sky. Arrays are (n,), float64."""

    #: ICRS, degrees.
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    #: ADU a second: all of it.
    flux: NDArray[np.float64]
    #: Pixels that hold half of a galaxy's light along its longer axis; 0 for a star.
    radius: NDArray[np.float64]
    #: Of galaxies: Sersic's index, shorter over longer axis, and the longer axis from x to y, radians.
    index: NDArray[np.float64]
    ratio: NDArray[np.float64]
    angle: NDArray[np.float64]


def drawn(centre: tuple[float, float], size: tuple[float, float], pixel_deg: float, generator: Generator) -> Field:
    """Return a field about `centre` (ra, dec, degrees) that fills `size` (y, x), pixels of `pixel_deg`."""
    height, width = size
    stars, galaxies = (int(generator.poisson(density * height * width)) for density in (STARS, GALAXIES))
    count = stars + galaxies
    north = generator.uniform(-height / 2, height / 2, count) * pixel_deg
    east = generator.uniform(-width / 2, width / 2, count) * pixel_deg
    low, high = (limit**-SLOPE for limit in FLUX)
    flux = (low - generator.uniform(0, 1, count) * (low - high)) ** (-1 / SLOPE)
    radius = RADIUS[0] * (RADIUS[1] / RADIUS[0]) ** generator.uniform(0, 1, count)
    radius[:stars] = 0
    ra, dec = deprojected(east, north, centre)
    return Field(
        ra=ra,
        dec=dec,
        flux=flux,
        radius=radius,
        index=generator.uniform(*INDEX, count),
        ratio=generator.uniform(*RATIO, count),
        angle=generator.uniform(0, np.pi, count),
    )


def projected(
    ra: NDArray[np.float64], dec: NDArray[np.float64], centre: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how far places are to the east and the north of `centre` in its tangent plane; all in degrees."""
    along = np.radians(ra - centre[0])
    dec, dec_0 = np.radians(dec), np.radians(centre[1])
    cosine = np.sin(dec_0) * np.sin(dec) + np.cos(dec_0) * np.cos(dec) * np.cos(along)
    east = np.cos(dec) * np.sin(along) / cosine
    north = (np.cos(dec_0) * np.sin(dec) - np.sin(dec_0) * np.cos(dec) * np.cos(along)) / cosine
    return np.degrees(east), np.degrees(north)


def deprojected(
    east: NDArray[np.float64], north: NDArray[np.float64], centre: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the places (ra, dec) that `projected` takes to `east` and `north`; all in degrees."""
    xi, eta, dec_0 = np.radians(east), np.radians(north), np.radians(centre[1])
    across = np.cos(dec_0) - eta * np.sin(dec_0)
    ra = centre[0] + np.degrees(np.arctan2(xi, across))
    dec = np.degrees(np.arctan2(np.sin(dec_0) + eta * np.cos(dec_0), np.hypot(xi, across)))
    return ra, dec
