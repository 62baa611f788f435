"""A division of the sky into zones of declination, each cut into tiles of about the same area, and cones across it.

After Gray, Nieto-Santisteban & Szalay, "The Zones Algorithm for Finding Points-Near-a-Point" (2006).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Height of a zone, and width of its tiles at its middle, degrees.
ZONE_DEG: Final = 5.0
_ZONES: Final = round(180 / ZONE_DEG)
_MIDDLES: Final = np.radians(-90 + ZONE_DEG * (np.arange(_ZONES) + 0.5))
#: Tiles of each zone, and the number of its first.
_TILES: Final = np.maximum(1, np.rint(360 / ZONE_DEG * np.cos(_MIDDLES))).astype(int)
_FIRST: Final = np.concatenate([[0], np.cumsum(_TILES)[:-1]])


def tile_of(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the tile of each position.

    Parameters
    ----------
    ra, dec : (n,), degrees; dec from -90 to 90.
    """
    zone = np.clip(np.floor((dec + 90) / ZONE_DEG), 0, _ZONES - 1).astype(int)
    along = np.floor(np.mod(ra, 360) / 360 * _TILES[zone]).astype(int)
    return np.asarray(_FIRST[zone] + np.minimum(along, _TILES[zone] - 1))


def tiles_of_cone(ra: float, dec: float, radius: float) -> list[int]:
    """Return every tile that a cone may touch, sorted; all of it is in degrees."""
    low = int(np.clip(np.floor((dec - radius + 90) / ZONE_DEG), 0, _ZONES - 1))
    high = int(np.clip(np.floor((dec + radius + 90) / ZONE_DEG), 0, _ZONES - 1))
    found: list[int] = []
    for zone in range(low, high + 1):
        count = int(_TILES[zone])
        half = _half_width(dec, radius) / 360 * count
        middle = ra % 360 / 360 * count
        first, last = int(np.floor(middle - half)), int(np.floor(middle + half))
        along = range(count) if last - first + 1 >= count else range(first, last + 1)
        found += [int(_FIRST[zone]) + place % count for place in along]
    return sorted(found)


def in_cone(
    ra: NDArray[np.float64], dec: NDArray[np.float64], centre: tuple[float, float], radius: float
) -> NDArray[np.int64]:
    """Return the places of the positions within `radius` of `centre`, degrees.

    Parameters
    ----------
    ra, dec : (n,), degrees, in order of dec.
    """
    first, last = np.searchsorted(dec, [centre[1] - radius, centre[1] + radius], side="left")
    last += np.searchsorted(dec[last:], centre[1] + radius, side="right")
    near = slice(int(first), int(last))
    return np.asarray(np.flatnonzero(separation(ra[near], dec[near], *centre) <= radius) + first)


def separation(ra: NDArray[np.float64], dec: NDArray[np.float64], ra0: float, dec0: float) -> NDArray[np.float64]:
    """Return the angle of each position to one, degrees; exact for small ones too (haversine)."""
    one, two, width = np.radians(dec), np.radians(dec0), np.radians(ra - ra0)
    half = np.sin((one - two) / 2) ** 2 + np.cos(one) * np.cos(two) * np.sin(width / 2) ** 2
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(np.minimum(half, 1.0)))))


def _half_width(dec: float, radius: float) -> float:
    """Return how far in right ascension a cone reaches on either side: 180 where it holds a pole."""
    if abs(dec) + radius >= 90:  # noqa: PLR2004 (a pole)
        return 180.0
    return float(np.degrees(np.arcsin(np.sin(np.radians(radius)) / np.cos(np.radians(dec)))))
