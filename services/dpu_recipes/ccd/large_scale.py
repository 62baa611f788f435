"""The large scales of a flat: what changes over a mesh of pixels and more."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import make_interp_spline

from dpu_recipes.ccd.statistics import clipped

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A mesh's statistics leave out what lies beyond so many sigma, in at most so many iterations.
CLIP, ITERATIONS = 5.0, 5
#: A cubic spline needs so many meshes; fewer get a polynomial through all of them.
CUBIC = 3


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
    if not good.any():
        raise ValueError("no pixel is good")
    edges = [np.linspace(0, size, max(round(size / mesh), 1) + 1).astype(int) for size in image.shape]
    means = np.array(
        [
            [_mean(image[top:bottom, left:right], good[top:bottom, left:right]) for left, right in pairwise(edges[1])]
            for top, bottom in pairwise(edges[0])
        ]
    )
    return _through(_filled(means), edges).astype(np.float32)


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


def _through(means: NDArray[np.float64], edges: list[NDArray[np.int_]]) -> NDArray[np.float64]:
    """Return the spline through the means of meshes, at every pixel, axis by axis."""
    for axis, edge in enumerate(edges):
        middles = (edge[:-1] + edge[1:] - 1) / 2
        spline = make_interp_spline(middles, means, k=min(CUBIC, middles.size - 1), axis=axis)
        means = spline(np.arange(edge[-1]))
    return means
