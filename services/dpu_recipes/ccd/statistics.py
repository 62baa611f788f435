"""Statistics that leave outliers out: a clipped sample, the difference of two frames, the windows of one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


#: Values that are worked on at a time: what stays in a processor's nearest cache. A dot product of more would be shared
#: by threads, which cost more than they do.
PIECE = 1 << 13
#: Types whose values float32 holds to the last digit, or that are no better.
NARROW = (np.dtype(np.uint8), np.dtype(np.int16), np.dtype(np.uint16), np.dtype(np.float32))
#: The first limits are taken from about so many values.
SAMPLE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Clipped:
    """A sample without its outliers."""

    mean: float
    #: Standard deviation about the mean.
    rms: float
    #: How many values are in, and how many were left out (NaN among them).
    count: int
    rejected: int
    #: The values that are in lie between these, both included.
    low: float
    high: float
    iterations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """How a frame varies over a grid of windows."""

    #: Greatest distance of a window's mean from the mean of all windows.
    flatness: float
    #: Greatest standard deviation in a window.
    stdev: float


def clipped(values: NDArray[Any], *, threshold: float, iterations: int) -> Clipped:
    """Return the statistics of `values` within `threshold` standard deviations of their mean.

    The first limits come from the median and the central 68 % of the values, which a few bad columns do not move;
    each iteration then takes mean and standard deviation of what lies within the last limits, until their number
    does not change.

    Parameters
    ----------
    values : array of any shape, integer or float; NaN counts as an outlier. Not changed.
    threshold : in standard deviations, at least 1.
    iterations : at most so many, at least 1.

    Raises
    ------
    ValueError : where no value is finite.
    """
    flat = values.reshape(-1)
    centre, spread = _first_guess(flat)
    last, reach, count, mean, rms, steps = -1, 0.0, 0, centre, spread, 0
    while steps < iterations and count != last:
        # The limits stay about the value that the sums are about: the mean of what the last limits kept.
        steps, last, centre, reach = steps + 1, count, mean, threshold * rms
        count, mean, rms = _moments(flat, centre, reach)
    return Clipped(
        mean=mean,
        rms=rms,
        count=count,
        rejected=flat.size - count,
        low=centre - reach,
        high=centre + reach,
        iterations=steps,
    )


def median(values: NDArray[Any], within: Clipped) -> float:
    """Return the median of what `clipped` kept of `values`."""
    flat = values.reshape(-1)
    return float(np.median(flat[(flat >= within.low) & (flat <= within.high)]))


def difference(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Return `first - second` : (y, x), int32 of whole numbers (which never wrap), else float32."""
    wide = np.int32 if first.dtype.kind in "iu" and second.dtype.kind in "iu" else np.float32
    result: NDArray[Any] = np.subtract(first, second, dtype=wide)
    return result


def windows(image: NDArray[Any], *, grid: int, threshold: float, iterations: int) -> Windows:
    """Return how `image` : (y, x) varies over `grid` x `grid` windows, each clipped as `clipped` does."""
    rows = np.array_split(np.arange(image.shape[0]), min(grid, image.shape[0]))
    columns = np.array_split(np.arange(image.shape[1]), min(grid, image.shape[1]))
    measured = [
        clipped(image[y[0] : y[-1] + 1, x[0] : x[-1] + 1], threshold=threshold, iterations=iterations)
        for y in rows
        for x in columns
    ]
    means = np.array([window.mean for window in measured])
    return Windows(flatness=float(np.abs(means - means.mean()).max()), stdev=max(window.rms for window in measured))


def _moments(flat: NDArray[Any], centre: float, reach: float) -> tuple[int, float, float]:
    """Return number, mean and standard deviation of the values not further than `reach` from `centre`.

    Piece by piece, about `centre`: no copy of the whole is made, and no digit is lost, because float32 holds what is
    left of narrow values as well as double precision does.
    """
    kind = np.float32 if flat.dtype.newbyteorder("=") in NARROW else np.float64
    middle = kind(centre)
    count, total, squares = 0, 0.0, 0.0
    for start in range(0, flat.size, PIECE):
        residual = np.subtract(flat[start : start + PIECE], middle, dtype=kind)
        within = np.abs(residual) <= reach
        kept = np.where(within, residual, kind(0))
        count += int(np.count_nonzero(within))
        total += float(kept.sum())
        squares += float(kept @ kept)
    shift = total / count
    return count, float(middle) + shift, math.sqrt(max(squares / count - shift**2, 0.0))


def _first_guess(flat: NDArray[Any]) -> tuple[float, float]:
    """Return a centre, which is one of the values, and a spread that outliers do not move.

    Whole numbers have whole percentiles: of a noise below one ADU the central 68 % may be one value, so the
    spread is never taken for less than the rounding may hide.
    """
    # An odd step meets every column of a frame whose width is a power of two.
    sample = flat[:: flat.size // SAMPLE | 1].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        sample = flat[np.isfinite(flat)].astype(np.float64)
    if not sample.size:
        raise ValueError("no value is finite")
    low, centre, high = np.percentile(sample, (15.87, 50.0, 84.13), method="inverted_cdf")
    rounding = 1.0 if flat.dtype.kind in "iu" else 0.0
    spread = (high - low) / 2 + rounding / 2
    return float(centre), float(spread) if spread > 0 else float(sample.std())
