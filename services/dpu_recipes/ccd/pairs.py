"""Two flats of one level: what their difference tells of the noise of light."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dpu_recipes.ccd.stack import blocks
from dpu_recipes.ccd.statistics import clipped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dpu_recipes.ccd.layer import Layer
    from dpu_recipes.ccd.statistics import Clipped

#: One row in so many gives the mean light of a frame, and what is an outlier: half a million pixels of a whole CCD.
SAMPLED_ROWS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """One flat: pixels that may still lie on disk, and what is taken off them."""

    layer: Layer
    #: (y, x), float32, ADU: subtracted from each pixel, made by the same overscan method.
    bias: NDArray[np.float32]
    #: ADU above overscan and bias: what has more is full.
    full: float
    #: ADU, of one pixel without light: read noise, and the noise of the level that was subtracted.
    noise: float

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the light in rows `start` to `stop`, ADU, as a new array."""
        block = self.layer.rows(start, stop)
        block -= self.bias[start:stop]
        return block

    def sampled(self) -> NDArray[np.float32]:
        """Return the light in one row of SAMPLED_ROWS, ADU."""
        return np.concatenate([self.rows(row, row + 1) for row in range(0, self.bias.shape[0], SAMPLED_ROWS)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """What is an outlier: `threshold` standard deviations from the mean, in at most `iterations` rounds."""

    threshold: float = 5.0
    iterations: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What two flats of one level have in common, and what they have not."""

    #: The signal whose noise is in the variance: first + q^2 second, with q the first over the second, ADU.
    signal: float
    #: Of first - q second, ADU^2, without what the read-out adds; and the error that its number of pixels leaves.
    variance: float
    error: float
    #: Pixels that count, and that were left out: outliers, and full ones.
    count: int
    rejected: int


def level(flat: Exposed, clip: Clip) -> tuple[float, float]:
    """Return the mean light of a flat, ADU, and the part of its pixels that are full; of one row in SAMPLED_ROWS.

    Clipped: pixels that respond unlike the others count at no level, rather than at those where they are not full.
    """
    light = flat.sampled()
    mean = clipped(light, threshold=clip.threshold, iterations=clip.iterations).mean
    return mean, float(np.mean(light >= flat.full))


def measured(first: Exposed, second: Exposed, *, ratio: float, clip: Clip) -> Pair:
    """Return the signal of two flats and the variance that its photons bring.

    Parameters
    ----------
    first, second : of one shape. Only a block of rows of each is in memory at a time.
    ratio : q, of their levels: the first over the second.
    clip : of the difference.

    Raises
    ------
    ValueError : where no pixel is left, or both are the same.

    Notes
    -----
    f1 - q f2 holds neither the response of the pixels nor the illumination; what is left is noise, of variance
    V + n1^2 + q^2 n2^2, and photons alone make V = S / gain, S = f1 + q^2 f2, both means over the same pixels
    (Janesick, Photon Transfer, 2007, chapter 5).
    """
    difference = first.sampled() - np.float32(ratio) * second.sampled()
    limits = clipped(difference, threshold=clip.threshold, iterations=clip.iterations)
    sums = _summed(first, second, ratio, limits)
    count = int(sums[0])
    if count <= 1:
        raise ValueError("every pixel is an outlier or full")
    mean_first, mean_second, residual, squares = sums[1:] / count
    total = (squares - residual**2) * count / (count - 1)
    if not total > 0:
        raise ValueError("the two flats are the same, there is no noise to measure")
    return Pair(
        signal=float(mean_first + ratio**2 * mean_second),
        variance=float(total - first.noise**2 - (ratio * second.noise) ** 2),
        error=float(total * math.sqrt(2 / count)),
        count=count,
        rejected=first.bias.size - count,
    )


def _summed(first: Exposed, second: Exposed, ratio: float, limits: Clipped) -> NDArray[np.float64]:
    """Return what `_sums` returns of a block, of all rows."""
    full = (first.full, second.full)
    parts = [
        _sums(first.rows(start, stop), second.rows(start, stop), ratio, limits, full)
        for start, stop in blocks(first.bias.shape, 4)
    ]
    whole: NDArray[np.float64] = np.sum(parts, axis=0)
    return whole


def _sums(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    ratio: float,
    limits: Clipped,
    full: tuple[float, float],
) -> NDArray[np.float64]:
    """Return number, sum of both, and of the difference about the middle of `limits` and its square, of good pixels."""
    middle = np.float32((limits.low + limits.high) / 2)
    difference = first - np.float32(ratio) * second
    kept = (difference >= limits.low) & (difference <= limits.high) & (first < full[0]) & (second < full[1])
    weights = kept.astype(np.float32)
    difference -= middle
    difference *= weights
    # Dot products of a block: several times faster than sums that leave pixels out, and as good as the noise needs.
    products = ((first, weights), (second, weights), (difference, weights), (difference, difference))
    return np.array([np.count_nonzero(kept), *(np.vdot(one, other) for one, other in products)], np.float64)
