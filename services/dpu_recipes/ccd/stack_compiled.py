"""The stack of large frames as compiled code: bit for bit what numpy gives, at the speed of the memory.

Compiling takes seconds, once: the code is kept in NUMBA_CACHE_DIR, or beside this file. So small frames, which numpy
stacks sooner than that, never come here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.lib.stride_tricks import as_strided

from dpu_recipes.ccd.median import network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dpu_recipes.ccd.layer import Layer

#: Not `fastmath`: it reorders sums, and results would depend on the processor.
_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")

#: Bytes of the block of rows that is worked on at a time.
BLOCK_BYTES = 1 << 20
#: Pixels that are sorted at a time: of ten frames, what stays in a processor's first cache.
_TILE = 512
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)


def fill(layers: Sequence[Layer], limit: np.float32, mean: NDArray[np.float32], count: NDArray[np.uint16]) -> None:
    """Fill `mean` and `count` : (y, x) of what lies within `limit` of the median of `layers`."""
    height, width = mean.shape
    words = [_words(layer) for layer in layers]
    rows = max(1, BLOCK_BYTES // (4 * width * len(layers)))
    values = np.empty((len(layers), rows, width), np.float32)
    comparisons = np.array(network(len(layers)), np.int64).reshape(-1, 2)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        for layer, stored, block in zip(layers, words, values, strict=True):
            if stored is None:
                block[: stop - start] = layer.rows(start, stop)
            else:
                stored.read(start, block[: stop - start])
        _mean_near_median(
            values.reshape(len(layers), -1),
            comparisons,
            limit,
            mean[start:stop].reshape(-1),
            count[start:stop].reshape(-1),
        )


@dataclass(frozen=True, slots=True)
class _Words:
    """The pixels of a layer as FITS stores raw frames: big-endian words of 16 bits, and a level a row."""

    #: From the first pixel to the last, with whatever lies between the rows; its bytes not yet swapped.
    words: NDArray[np.uint16]
    #: From one row to the next, words.
    pitch: int
    zero: np.float32
    #: (y,)
    level: NDArray[np.float32]

    def read(self, start: int, block: NDArray[np.float32]) -> None:
        """Fill `block` with the rows from `start` on, ADU."""
        words = self.words[start * self.pitch :]
        _swapped(words, self.pitch, self.zero, self.level[start : start + len(block)], block)


def _words(layer: Layer) -> _Words | None:
    """Return the pixels of a layer that is stored so, None of any other."""
    pixels = np.asarray(layer.pixels)
    size, (pitch, step) = pixels.itemsize, pixels.strides
    if pixels.dtype != np.dtype(">i2") or step != size or pitch < 0 or pitch % size or layer.level.shape[1] > 1:
        return None
    height, width = pixels.shape
    span = (height - 1) * pitch // size + width
    words = as_strided(pixels.view(np.uint16), shape=(span,), strides=(size,), writeable=False)
    level = np.array(np.broadcast_to(layer.level[:, 0], height))
    return _Words(words, pitch // size, np.float32(layer.zero), level)


@_compiled
def _swapped(
    words: NDArray[np.uint16], pitch: int, zero: np.float32, level: NDArray[np.float32], block: NDArray[np.float32]
) -> None:
    """Fill `block` with words, their bytes swapped, plus `zero`, less the level of their row."""
    height, width = block.shape
    for y in range(height):
        row, into, below = words[y * pitch : y * pitch + width], block[y], level[y]
        for x in range(row.size):
            word = row[x]
            # First the whole number, which float32 holds to the last digit, then the fraction.
            into[x] = np.float32(np.int16(np.uint16((word << 8) | (word >> 8)))) + zero - below


@_compiled
def _mean_near_median(
    values: NDArray[np.float32],
    comparisons: NDArray[np.int64],
    limit: np.float32,
    mean: NDArray[np.float32],
    count: NDArray[np.uint16],
) -> None:
    """Fill `mean` and `count` from `values` : (n, pixels), which it leaves sorted.

    Slices, not indices: what lies at x of two slices is known to lie apart, so that the loops work on eight pixels
    at a time.
    """
    number = len(values)
    total, kept = np.empty(_TILE, np.float32), np.empty(_TILE, np.float32)
    for start in range(0, mean.size, _TILE):
        stop = min(start + _TILE, mean.size)
        for k in range(len(comparisons)):
            low, high = values[comparisons[k, 0], start:stop], values[comparisons[k, 1], start:stop]
            for x in range(low.size):
                one, other = low[x], high[x]
                # Adding nothing keeps the compiler from storing only what changes, which takes three times as long.
                low[x] = _ZERO + (min(other, one))
                high[x] = max(one, other)
        lower, upper = values[(number - 1) // 2, start:stop], values[number // 2, start:stop]
        centre, counted = mean[start:stop], count[start:stop]
        for x in range(centre.size):
            centre[x] = (lower[x] + upper[x]) * _HALF
            total[x], kept[x] = _ZERO, _ZERO
        for i in range(number):
            value = values[i, start:stop]
            for x in range(value.size):
                residual = value[x] - centre[x]
                near = _ONE if abs(residual) <= limit else _ZERO
                total[x] += residual * near
                kept[x] += near
        for x in range(centre.size):
            centre[x] += total[x] / max(kept[x], _ONE)
            counted[x] = np.uint16(kept[x])
