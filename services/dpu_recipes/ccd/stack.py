"""The mean of many frames of one CCD, with rejection of what the read noise cannot explain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dpu_recipes.ccd.median import median, sort

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from dpu_recipes.ccd.layer import Layer

#: Bytes of the block of rows that is worked on at a time: what stays in a processor's cache.
BLOCK_BYTES = 4 << 20
#: Values of all layers together from which on compiled code pays, which takes half a second to load.
COMPILED_FROM = 1 << 25


@dataclass(frozen=True, slots=True)
class Stack:
    """The mean of some layers, and how many of them each pixel's is made of."""

    #: (y, x), float32, ADU.
    mean: NDArray[np.float32]
    #: (y, x), uint16.
    count: NDArray[np.uint16]


def clipped_mean(layers: Sequence[Layer], *, noise: float, threshold: float) -> Stack:
    """Return the mean of `layers`, pixel by pixel, of what lies near their median.

    Parameters
    ----------
    layers : of one shape, at least one. Only a block of rows of each is in memory at a time, so memory does not
        grow with their number.
    noise : ADU, of one pixel of one layer: its read noise, and the noise of the level that was subtracted.
    threshold : a value further than `threshold * noise` from its pixel's median is rejected.

    Raises
    ------
    ValueError : for layers of different shapes, or none.

    Notes
    -----
    The scatter of ten values says too little of their noise to clip by (the largest of ten can lie at most 2.85 of
    their own standard deviations from the mean), so the limit is the read noise. The centre is the median, which
    fewer than half of the values cannot carry away.
    """
    shapes = {layer.pixels.shape for layer in layers}
    if len(shapes) != 1:
        raise ValueError(f"layers of one shape are needed, not {sorted(shapes)}")
    (shape,) = shapes
    mean = np.empty(shape, np.float32)
    count = np.empty(shape, np.uint16)
    limit = np.float32(threshold * noise)
    if len(layers) * mean.size >= COMPILED_FROM:
        from dpu_recipes.ccd import stack_compiled

        stack_compiled.fill(layers, limit, mean, count)
    else:
        fill(layers, limit, mean, count)
    return Stack(mean, count)


def fill(layers: Sequence[Layer], limit: np.float32, mean: NDArray[np.float32], count: NDArray[np.uint16]) -> None:
    """Fill `mean` and `count` : (y, x) of what lies within `limit` of the median of `layers`."""
    for start, stop in blocks(mean.shape, len(layers)):
        values = [layer.rows(start, stop) for layer in layers]
        sort(values)
        mean[start:stop], count[start:stop] = _mean_near_median(values, limit)


def blocks(shape: tuple[int, ...], layers: int) -> Iterator[tuple[int, int]]:
    """Yield the first row, and the one behind the last, of blocks of which `layers` fit into BLOCK_BYTES."""
    rows = max(1, BLOCK_BYTES // (4 * shape[1] * layers))
    for start in range(0, shape[0], rows):
        yield start, min(start + rows, shape[0])


def _mean_near_median(values: list[NDArray[np.float32]], limit: np.float32) -> tuple[NDArray[np.float32], Any]:
    """Return mean and number of the sorted `values` within `limit` of their median.

    Residuals are summed, not levels: float32 keeps their last digits.
    """
    centre = median(values)
    total = np.zeros_like(centre)
    count = np.zeros(centre.shape, np.uint16)
    for value in values:
        residual = value - centre
        kept = np.abs(residual) <= limit
        residual *= kept
        total += residual
        count += kept
    # Two values far apart may both lie too far from the point between them: then the median stands for them.
    total /= np.maximum(count, 1)
    total += centre
    return total, count
