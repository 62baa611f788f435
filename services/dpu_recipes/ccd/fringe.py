"""Fringes: light of the night sky that interferes within the CCD, added to what falls on it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from dpu_recipes.ccd.flat import FlatLayer, combined, residuals
from dpu_recipes.ccd.large_scale import Surface, surface
from dpu_recipes.ccd.stars import stars
from dpu_recipes.ccd.statistics import clipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dpu_recipes.ccd.flat import Flat
    from dpu_recipes.ccd.noise import NoiseModel

#: Times that stars are looked for, and that the background is estimated without them and without fringes.
PASSES = 2
#: Statistics leave out what lies beyond so many sigma, in at most so many iterations.
CLIP, ITERATIONS = 5.0, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FringeLayer(FlatLayer):
    """One exposure of the night sky: its fringes, in units of the sky."""

    #: (y, x), float32, mean 1: what each pixel makes of light.
    flat: NDArray[np.float32]
    #: (y, x), True where a pixel tells of the sky.
    good: NDArray[np.bool_]
    #: Pixels a side of the meshes of the background, which must be wider than fringes are apart.
    mesh: int
    #: Of the flat-fielded frame, in units of its light; without one, 1 everywhere.
    background: Surface | None = field(default=None)

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows `start` to `stop` less their background, plus 1, in units of the mean light, as a new array."""
        # Not super(): a dataclass with slots is another class than the one that is written here.
        block = FlatLayer.rows(self, start, stop)
        np.divide(block, self.flat[start:stop], out=block, where=self.good[start:stop])
        block[~self.good[start:stop]] = 1
        if self.background is not None:
            block -= self.background.rows(start, stop)
            block += np.float32(1)
        return block


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """By how much of a fringe frame an image is fringed."""

    #: In the image's units; what its pixels' noise leaves; and of how many pixels it is.
    scale: float
    error: float
    count: int


def fringes(layers: Sequence[FringeLayer], *, noise: NoiseModel, threshold: float) -> tuple[Flat, list[FringeLayer]]:
    """Return the mean of the fringes of some exposures, plus 1, and the exposures with stars and background known.

    What moves with the telescope is a star. The background, which is smooth, is estimated without stars, and without
    the fringes found so far: else the half of a fringe at the edge of a mesh would tilt it.
    """
    flat = combined(layers, noise=noise, threshold=threshold)
    marked = list(layers)
    for _ in range(PASSES):
        marked = [replace(layer, stars=stars(residuals(layer, flat.mean))) for layer in marked]
        marked = [replace(layer, background=_background(layer, flat.mean)) for layer in marked]
        flat = combined(marked, noise=noise, threshold=threshold, about=flat.mean)
    return flat, marked


def scaled(
    image: NDArray[np.float32],
    fringe: NDArray[np.float32],
    *,
    good: NDArray[np.bool_],
    between: tuple[float, float],
    threshold: float,
) -> Scale:
    """Return by what `fringe` is to be multiplied to be taken off `image`.

    Parameters
    ----------
    image : (y, x), float32, ADU, flat-fielded, its background taken off. Not changed.
    fringe : (y, x), float32, in units of the sky, mean 0. Not changed.
    good : (y, x), True where a pixel counts: no source, not bad.
    between : in standard deviations of `fringe`: pixels whose fringe is that far from 0 count. Weak ones tell little,
        and the strongest are defects.
    threshold : in standard deviations: values of the image further from what is fitted are left out.

    Raises
    ------
    ValueError : where no pixel counts.

    Notes
    -----
    A straight line through image over fringe by least squares, twice: the second time without what lies far off the
    first.
    """
    known = clipped(fringe[good], threshold=CLIP, iterations=ITERATIONS)
    strength = np.abs(fringe - np.float32(known.mean))
    used = good & (strength >= between[0] * known.rms) & (strength <= between[1] * known.rms)
    pattern, value = fringe[used].astype(np.float64), image[used].astype(np.float64)
    if pattern.size <= 2 or not np.ptp(pattern) > 0:  # noqa: PLR2004 - a line has two parameters
        raise ValueError("no pixel tells of fringes")
    return _fitted(pattern, value, threshold)


def _fitted(pattern: NDArray[np.float64], value: NDArray[np.float64], threshold: float) -> Scale:
    """Return the slope of the line through values over a pattern, twice fitted."""
    slope, left = 0.0, value
    for _ in range(2):
        limits = clipped(left, threshold=threshold, iterations=ITERATIONS)
        near = (left >= limits.low) & (left <= limits.high)
        pattern, value = pattern[near], value[near]
        slope, middle = np.polynomial.polynomial.polyfit(pattern, value, 1)[::-1]
        left = value - middle - slope * pattern
    error = float(left.std() / (pattern.std() * np.sqrt(pattern.size)))
    return Scale(scale=float(slope), error=error, count=pattern.size)


def _background(layer: FringeLayer, mean: NDArray[np.float32]) -> Surface:
    """Return the background of an exposure in units of its light, where `mean` are its fringes, plus 1."""
    raw = replace(layer, background=None)

    def rows(start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        block = raw.rows(start, stop)
        block -= mean[start:stop]
        block += np.float32(1)
        return block, raw.good[start:stop] & raw.starless(start, stop)

    return surface(rows, mean.shape, mesh=layer.mesh)
