"""The large scales of a flat: what changes over a mesh of pixels and more."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy.interpolate import make_interp_spline

from dpu_recipes.ccd.statistics import clipped

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

#: What gives rows (y, x) float32 of an image from one to another, and where they count.
Rows: TypeAlias = "Callable[[int, int], tuple[NDArray[np.float32], NDArray[np.bool_]]]"

#: A mesh's statistics leave out what lies beyond so many sigma, in at most so many iterations.
CLIP, ITERATIONS = 5.0, 5
#: A cubic spline needs so many meshes; fewer get a polynomial through all of them.
CUBIC = 3


@dataclass(frozen=True, slots=True)
class Surface:
    """A bicubic spline through the means of meshes."""

    #: (rows of meshes, columns of meshes).
    means: NDArray[np.float64]
    #: Of the meshes, pixels: along y and along x.
    edges: tuple[NDArray[np.int_], NDArray[np.int_]]

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows `start` to `stop` : (y, x), float32."""
        along = _through(self.means, self.edges[0], np.arange(start, stop))
        whole = _through(along.T, self.edges[1], np.arange(self.edges[1][-1]))
        return np.ascontiguousarray(whole.T, np.float32)


def large_scale(image: NDArray[np.float32], *, good: NDArray[np.bool_], mesh: int = 64) -> NDArray[np.float32]:
    """Return the large scales of `image` : (y, x), float32.

    The clipped mean of the good pixels in each of about `mesh` x `mesh` pixels, and a bicubic spline through the
    middles of the meshes, which goes on to the edges as it is: a slope does not end half a mesh before them, as in
    SExtractor's background. A mesh without good pixels has the mean of its neighbours.

    Parameters
    ----------
    image : any scale. Not changed.
    good : (y, x), True where a pixel counts.
    mesh : pixels.

    Raises
    ------
    ValueError : where no pixel is good.
    """
    found = surface(lambda start, stop: (image[start:stop], good[start:stop]), image.shape, mesh=mesh)
    return found.rows(0, image.shape[0])


def surface(rows: Rows, shape: tuple[int, ...], *, mesh: int) -> Surface:
    """Return the large scales of an image of `shape` of which `rows` are read a mesh at a time: see `large_scale`."""
    across = _edges(shape[1], mesh)
    down = _edges(shape[0], mesh)
    means = np.empty((down.size - 1, across.size - 1))
    for number, (top, bottom) in enumerate(pairwise(down)):
        band, good = rows(top, bottom)
        means[number] = [_mean(band[:, left:right], good[:, left:right]) for left, right in pairwise(across)]
    if np.isnan(means).all():
        raise ValueError("no pixel is good")
    return Surface(_filled(means), (down, across))


def _edges(size: int, mesh: int) -> NDArray[np.int_]:
    return np.linspace(0, size, max(round(size / mesh), 1) + 1).astype(int)


def _mean(part: NDArray[np.float32], good: NDArray[np.bool_]) -> float:
    values = part[good]
    return clipped(values, threshold=CLIP, iterations=ITERATIONS).mean if values.size else np.nan


def _filled(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `means` with those that are missing taken from their neighbours, ring by ring."""
    while np.isnan(means).any():
        padded = np.pad(means, 1, constant_values=np.nan)
        around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(*means.shape, 9)
        known = ~np.isnan(around)
        total = np.where(known, around, 0.0).sum(axis=-1)
        number = known.sum(axis=-1)
        fill = np.divide(total, number, out=np.full(means.shape, np.nan), where=number > 0)
        means = np.where(np.isnan(means), fill, means)
    return means


def _through(means: NDArray[np.float64], edges: NDArray[np.int_], places: NDArray[np.int_]) -> NDArray[np.float64]:
    """Return the spline through `means` along the first axis, at `places`."""
    middles = (edges[:-1] + edges[1:] - 1) / 2
    spline: NDArray[np.float64] = make_interp_spline(middles, means, k=min(CUBIC, middles.size - 1))(places)
    return spline
