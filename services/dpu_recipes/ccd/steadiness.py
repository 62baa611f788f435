"""Whether a lamp shone evenly while the shutter was open: rows of one flat against those of another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from dpu_recipes.ccd.statistics import clipped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from dpu_recipes.ccd.noise import NoiseModel

#: Degree of the polynomial that a sky or a lamp may differ by along the rows from one flat to the next.
DEGREE = 8
#: Pixels a side of the windows in which the scatter is measured.
WINDOW = 100
#: In sigma: what lies further off is left out.
CLIP, ITERATIONS = 5.0, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How two flats differ, in units of what their photons and read-outs make one expect."""

    #: Scatter of their ratio in the window where it is largest.
    scatter: float
    #: Scatter of the mean ratio of a row from row to row.
    rows: float


def unsteadiness(rows: NDArray[np.float64], error: float) -> float:
    """Return the scatter of `rows` : (y,), mean ratios of two flats, about a smooth curve, in units of `error`.

    Smooth is a polynomial of degree 8: twilight has gradients, a lamp that flickers while the blade of a shutter
    travels leaves stripes. What lies further than 5 sigma (a row with a trail) is left out.
    """
    within = clipped(rows, threshold=CLIP, iterations=ITERATIONS)
    kept = (rows >= within.low) & (rows <= within.high)
    places, rows = np.linspace(-1, 1, rows.size)[kept], rows[kept]
    degree = min(DEGREE, rows.size // 4)
    smooth = np.polynomial.legendre.legval(places, np.polynomial.legendre.legfit(places, rows, degree))
    freedom = max(rows.size - degree - 1, 1) / rows.size
    residual = clipped(rows - smooth, threshold=CLIP, iterations=ITERATIONS)
    return residual.rms / math.sqrt(freedom) / error


def likeness(first: NDArray[np.float32], second: NDArray[np.float32], noise: NoiseModel) -> Likeness:
    """Return how two flats : (y, x), float32, ADU, differ: debiased, of one size.

    Pixels further than 5 expected sigma from their window's median ratio (cosmic rays) are left out. Both are
    infinite where no window has light in both.
    """
    kept = np.zeros(first.shape, bool)
    scatter = -np.inf
    for window in windows(first.shape, WINDOW):
        lights = [float(flat[window].mean(dtype=np.float64)) for flat in (first, second)]
        if min(lights) <= noise.read_noise:
            continue
        ratio = first[window] / np.maximum(second[window], 1)
        expected = _expected(noise, lights)
        pulls = (ratio / np.median(ratio) - 1) / expected
        near = np.abs(pulls) <= CLIP
        kept[window] = near
        scatter = max(scatter, float(pulls[near].std(dtype=np.float64)))
    if not kept.any():
        return Likeness(scatter=np.inf, rows=np.inf)
    return Likeness(scatter=scatter, rows=_rows(first, second, kept, noise))


def _rows(first: NDArray[np.float32], second: NDArray[np.float32], kept: NDArray[np.bool_], noise: NoiseModel) -> float:
    """Return the scatter of the ratio from row to row, in units of what is expected."""
    number = kept.sum(axis=1)
    some = number > first.shape[1] // 2
    sums = [flat.sum(axis=1, where=kept, dtype=np.float64)[some] for flat in (first, second)]
    lights = [float((total / number[some]).mean()) for total in sums]
    ratios = sums[0] / sums[1]
    return unsteadiness(ratios / ratios.mean(), _expected(noise, lights) / float(np.sqrt(number[some].mean())))


def _expected(noise: NoiseModel, lights: Sequence[float]) -> float:
    """Return the expected noise of the ratio of two pixels, relative to it."""
    return math.hypot(*(noise.relative(light) for light in lights))


def windows(shape: tuple[int, ...], size: int) -> Iterator[tuple[slice, slice]]:
    """Yield windows of about `size` pixels a side that cover an image of `shape`."""
    edges = [np.linspace(0, length, max(round(length / size), 1) + 1).astype(int).tolist() for length in shape]
    for top, bottom in pairwise(edges[0]):
        for left, right in pairwise(edges[1]):
            yield slice(top, bottom), slice(left, right)
