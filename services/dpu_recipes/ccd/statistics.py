"""Statistics that leave outliers out: a clipped sample, the difference of two frames, the windows of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Clipped:
    """A sample without its outliers."""

    mean: float
    median: float
    #: Standard deviation about the mean.
    rms: float
    #: How many values are in, and how many were left out (NaN among them).
    count: int
    rejected: int
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
    each iteration then takes mean and standard deviation of what the last one kept, until nothing changes.

    Parameters
    ----------
    values : array of any shape, integer or float; NaN counts as an outlier. Not changed.
    threshold : in standard deviations.
    iterations : at most so many.

    Raises
    ------
    ValueError : where no value is finite.
    """
    sample = values.ravel()
    if sample.dtype.kind == "f":
        sample = sample[np.isfinite(sample)]
    if not sample.size:
        raise ValueError("no value is finite")
    centre, spread = _first_guess(sample)
    kept, steps = sample, 0
    for steps in range(1, iterations + 1):
        limits = centre - threshold * spread, centre + threshold * spread
        within = sample[(sample >= limits[0]) & (sample <= limits[1])]
        settled = steps > 1 and within.size == kept.size
        kept = within
        centre, spread = float(kept.mean(dtype=np.float64)), float(kept.std(dtype=np.float64))
        if settled:
            break
    return Clipped(
        mean=float(kept.mean(dtype=np.float64)),
        median=float(np.median(kept)),
        rms=float(kept.std(dtype=np.float64)),
        count=int(kept.size),
        rejected=int(values.size - kept.size),
        iterations=steps,
    )


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


def _first_guess(sample: NDArray[Any]) -> tuple[float, float]:
    """Return a centre and a spread of `sample` that outliers do not move.

    Whole numbers have whole percentiles: of a noise below one ADU the central 68 % may be one value, so the
    spread is never taken for less than the rounding may hide.
    """
    low, centre, high = np.percentile(sample, (15.87, 50.0, 84.13))
    rounding = 1.0 if sample.dtype.kind in "iu" else 0.0
    spread = (high - low) / 2 + rounding / 2
    return float(centre), float(spread) if spread > 0 else float(sample.std(dtype=np.float64))
