"""The overscan: the level that the electronics add to every pixel, measured where no light falls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows over which the smoothed methods average.
SMOOTHING = 10

#: In standard deviations of a strip's pixels: what lies further out (a cosmic ray, charge that trails) is left out.
CLIP = 5.0


class Method(IntEnum):
    """How the level is taken off: by which strip, and as what."""

    NONE = 0
    CONSTANT_PRESCAN_X = 1
    CONSTANT_OVERSCAN_X = 2
    CONSTANT_PRESCAN_Y = 3
    CONSTANT_OVERSCAN_Y = 4
    ROWS_PRESCAN_X = 5
    ROWS_OVERSCAN_X = 6
    COLUMNS_PRESCAN_Y = 7
    COLUMNS_OVERSCAN_Y = 8
    SMOOTH_ROWS_PRESCAN_X = 9
    SMOOTH_ROWS_OVERSCAN_X = 10

    @property
    def strip(self) -> str:
        """Return the strip that it reads: 'prescan_x', 'overscan_x', 'prescan_y', 'overscan_y'; '' for none."""
        if self is Method.NONE:
            return ""
        place, axis = self.name.split("_")[-2:]
        return f"{place}_{axis}".lower()


@dataclass(frozen=True, slots=True)
class Correction:
    """What a method takes off the data area of one frame."""

    #: (1, 1), (y, 1) or (1, x), float32: broadcasts against the data area.
    level: NDArray[np.float32]
    #: Of the level itself, ADU^2: every pixel of a corrected frame carries it on top of the read noise.
    variance: float


def correction(method: Method, strip: NDArray[Any] | None) -> Correction:
    """Return what `method` takes off a frame.

    Parameters
    ----------
    method : one of the eleven.
    strip : (y, x), the strip that `method.strip` names, raw ADU: for the methods of rows its rows are those of the
        data area, for those of columns its columns are. None for Method.NONE only.

    Raises
    ------
    ValueError : for a strip that is missing, or has no pixels.

    Notes
    -----
    The level of a row (column) is the mean of its n strip pixels that lie within 5 standard deviations of its
    median, so its variance is rn^2 / n, with rn the noise of the strip's own pixels; the mean, because a median
    costs pi / 2 of that. The smoothed methods average 10 rows with the weights 1/2, 1 (nine times), 1/2, centred on
    the row; at the ends the weights that fall outside are left out.
    """
    if method is Method.NONE:
        return Correction(np.zeros((1, 1), np.float32), 0.0)
    if strip is None or not strip.size:
        raise ValueError(f"overscan method {method:d} needs a strip {method.strip}, and the frame has none")
    axis = 1 if method.strip.endswith("_x") else 0
    level, counts, noise = _profile(strip.astype(np.float32), axis)
    if method.name.startswith("CONSTANT"):
        mean = np.average(level, weights=counts, keepdims=True).astype(np.float32)
        return Correction(mean, noise**2 / float(counts.sum()))
    variance = noise**2 / counts
    if method.name.startswith("SMOOTH"):
        level, variance = _smoothed(level, variance)
    return Correction(level.astype(np.float32), float(variance.mean()))


def _profile(strip: NDArray[np.float32], axis: int) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return level and number of pixels used along `axis`, which stays with length 1, and a pixel's noise."""
    residual = strip - np.median(strip, axis=axis, keepdims=True)
    noise = _noise(residual, strip.shape[axis])
    used = np.abs(residual) <= CLIP * noise if noise > 0 else np.ones(strip.shape, bool)
    counts = np.maximum(used.sum(axis=axis, keepdims=True), 1).astype(np.float64)
    level = np.sum(strip, axis=axis, keepdims=True, where=used, dtype=np.float64) / counts
    spread = np.sum((strip - level) ** 2, where=used, dtype=np.float64)
    freedom = float(counts.sum() - counts.size)
    return level, counts, float(np.sqrt(spread / freedom)) if freedom > 0 else 0.0


def _noise(residual: NDArray[np.float32], across: int) -> float:
    """Return a first noise of a strip's pixels, from the central 68 % and the rounding to whole ADU.

    A row's own median took part of the noise with it: 1 / `across` of its variance, about.
    """
    low, high = np.percentile(residual, (15.87, 84.13))
    lost = math.sqrt(across / max(across - 1, 1))
    return float((high - low) / 2 + 0.5) * lost


def _smoothed(
    level: NDArray[np.float64], variance: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return level and variance : (y, 1), averaged over SMOOTHING rows."""
    weights = np.ones(SMOOTHING + 1)
    weights[[0, -1]] = 0.5
    inside = _sums(np.ones_like(level), weights)
    return _sums(level, weights) / inside, _sums(variance, weights**2) / inside**2


def _sums(column: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weighted sums about each row of `column` : (y, 1); outside of it there is nothing."""
    half = len(weights) // 2
    return np.convolve(column[:, 0], weights)[half:-half, np.newaxis]
