"""Flat fields: the response of each pixel to even light, from many frames of unlike levels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dpu_recipes.ccd.median import median, sort
from dpu_recipes.ccd.stack import blocks
from dpu_recipes.ccd.stars import BIN, spread, stars
from dpu_recipes.ccd.statistics import clipped
from dpu_recipes.ccd.steadiness import unsteadiness

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from dpu_recipes.ccd.layer import Layer
    from dpu_recipes.ccd.noise import NoiseModel

#: One row in so many tells the mean level of a frame: half a million pixels of a whole CCD.
SAMPLED_ROWS = 16
#: The statistics of a flat leave out what lies beyond so many sigma, in at most so many iterations.
CLIP, ITERATIONS = 5.0, 5
#: Times that stars are looked for.
PASSES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatLayer:
    """One frame of a flat: its pixels, and what is known of it."""

    layer: Layer
    #: (y, x), float32, ADU: subtracted from each pixel, the overscan corrected by the same method.
    bias: NDArray[np.float32]
    #: Mean light, ADU, by `level`.
    light: float
    #: Where stars are: (y, x) of bins of BIN x BIN pixels, True where their light falls. Without bins, nowhere.
    stars: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), bool))

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows `start` to `stop` in units of the mean light, as a new array."""
        block = self.layer.rows(start, stop)
        block -= self.bias[start:stop]
        block *= np.float32(1 / self.light)
        return block

    def starless(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Return where in rows `start` to `stop` no star is."""
        if not self.stars.size:
            return np.ones((stop - start, self.bias.shape[1]), bool)
        return ~spread(self.stars, start, stop, self.bias.shape[1])


@dataclass(frozen=True, slots=True)
class Flat:
    """The mean of some flats, and how each of them differs from it."""

    #: (y, x), float32; its clipped mean is 1.
    mean: NDArray[np.float32]
    #: (y, x), uint16: of how many frames.
    count: NDArray[np.uint16]
    #: (n, y): of each frame, the mean of a row over that of the flat, less 1.
    rows: NDArray[np.float64]
    #: The part of all values, stars aside, that was rejected.
    rejected: float


def level(layer: Layer, bias: NDArray[np.float32]) -> float:
    """Return the mean light of a frame, ADU: clipped, of one row in SAMPLED_ROWS."""
    sampled = range(0, bias.shape[0], SAMPLED_ROWS)
    light = np.concatenate([layer.rows(row, row + 1) - bias[row : row + 1] for row in sampled])
    return clipped(light, threshold=CLIP, iterations=ITERATIONS).mean


def combined(
    layers: Sequence[FlatLayer], *, noise: NoiseModel, threshold: float, about: NDArray[np.float32] | None = None
) -> Flat:
    """Return the mean of flats, each in units of its light, of what lies near their median.

    Parameters
    ----------
    layers : of one shape, at least one. Only a block of rows of each is in memory at a time.
    noise : of one pixel of one frame, ADU.
    threshold : a value further than so many times its own noise from the centre is rejected: read noise, and that of
        the photons that the centre makes one expect at the frame's level.
    about : (y, x), float32, in the layers' units: the centre, instead of the median. Where stars are known, their
        pixels would move a median of few values.

    Notes
    -----
    Frames are weighted by the inverse of their variance, which for flats is nearly their level: the noise of the mean
    is that of all photons together, 1 / sqrt(gain x sum of levels). Where all values are rejected, the centre stands.
    """
    shape = layers[0].bias.shape
    mean = np.empty(shape, np.float32)
    count = np.empty(shape, np.uint16)
    rows = np.empty((len(layers), shape[0]))
    seen = 0
    for start, stop in blocks(shape, 2 * len(layers)):
        values = [layer.rows(start, stop) for layer in layers]
        centre = _middle(values) if about is None else about[start:stop]
        sky = [layer.starless(start, stop) for layer in layers]
        keeps = [
            _near(value, centre, noise, threshold, layer.light) & starless
            for value, layer, starless in zip(values, layers, sky, strict=True)
        ]
        seen += sum(int(starless.sum()) for starless in sky)
        weights = [noise.relative(layer.light) ** -2 for layer in layers]
        mean[start:stop], count[start:stop] = _weighted(values, keeps, weights, centre)
        for number, (value, keep) in enumerate(zip(values, keeps, strict=True)):
            rows[number, start:stop] = _row_means(value, mean[start:stop], keep)
    scale = clipped(mean, threshold=CLIP, iterations=ITERATIONS).mean
    mean /= np.float32(scale)
    return Flat(mean, count, rows, 1 - int(count.sum(dtype=np.int64)) / seen if seen else 1.0)


def starless(layers: Sequence[FlatLayer], *, noise: NoiseModel, threshold: float) -> tuple[Flat, list[FlatLayer]]:
    """Return the mean of twilight flats where no star is, and the flats with their stars marked.

    Stars are looked for in each flat less the mean, and the mean is made again without them: once more than that,
    because the first mean has a little of every star, beside which the other frames look dark.
    """
    flat = combined(layers, noise=noise, threshold=threshold)
    marked = list(layers)
    for _ in range(PASSES):
        marked = [
            # Stars have raised the level, too, of each frame by its own: where one is left out, that would show.
            replace(layer, light=layer.light * (1 + float(rows.mean())), stars=stars(residuals(layer, flat.mean)))
            for layer, rows in zip(marked, flat.rows, strict=True)
        ]
        flat = combined(marked, noise=noise, threshold=threshold, about=flat.mean)
    return flat, marked


def row_scatters(flat: Flat, lights: Sequence[float], noise: NoiseModel) -> list[float]:
    """Return of each frame the scatter of its rows about the flat's, in units of what its `lights`, ADU, let expect.

    The flat is made of the frame, too, and follows it by its weight.
    """
    if len(lights) == 1:
        return [0.0]
    variances = [noise.relative(light) ** 2 for light in lights]
    together = 1 / sum(1 / variance for variance in variances)
    columns = flat.mean.shape[1]
    return [
        unsteadiness(rows, math.sqrt((variance - together) / columns))
        for rows, variance in zip(flat.rows, variances, strict=True)
    ]


def residuals(layer: FlatLayer, flat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return by how much a frame exceeds `flat`, in units of its light, in bins of BIN x BIN pixels, float32."""
    height, width = (size // BIN for size in flat.shape)
    binned = np.empty((height, width), np.float32)
    for start, stop in _whole_bins(flat.shape):
        over = layer.rows(start, stop)[:, : width * BIN] - flat[start:stop, : width * BIN]
        # Slices added up: a mean over two axes of so few values takes ten times as long.
        total = sum(over[y::BIN, x::BIN] for y in range(BIN) for x in range(BIN))
        binned[start // BIN : stop // BIN] = total
    binned /= np.float32(BIN**2)
    return binned


def _whole_bins(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield blocks of rows that end with a bin."""
    rows = max(next(stop - start for start, stop in blocks(shape, 2)) // BIN * BIN, BIN)
    last = shape[0] // BIN * BIN
    for start in range(0, last, rows):
        yield start, min(start + rows, last)


def _middle(values: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    ordered = [value.copy() for value in values]
    sort(ordered)
    return median(ordered)


def _near(
    value: NDArray[np.float32], centre: NDArray[np.float32], noise: NoiseModel, threshold: float, light: float
) -> NDArray[np.bool_]:
    """Return where a frame's value lies within `threshold` of its expected noise from the centre."""
    photons = np.float32(threshold**2 / (noise.gain * light))
    floor = np.float32((threshold * noise.read_noise / light) ** 2)
    limit = np.maximum(centre, np.float32(0)) * photons + floor
    residual = value - centre
    residual *= residual
    near: NDArray[np.bool_] = residual <= limit
    return near


def _weighted(
    values: Sequence[NDArray[np.float32]],
    keeps: Sequence[NDArray[np.bool_]],
    weights: Sequence[float],
    centre: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Return the weighted mean of what is kept, and its number. Residuals are summed: float32 keeps their digits."""
    total = np.zeros_like(centre)
    weighed = np.zeros_like(centre)
    count = np.zeros(centre.shape, np.uint16)
    largest = max(weights)
    for value, keep, weight in zip(values, keeps, weights, strict=True):
        share = keep * np.float32(weight / largest)
        total += (value - centre) * share
        weighed += share
        count += keep
    np.divide(total, weighed, out=total, where=weighed > 0)
    total += centre
    return total, count


def _row_means(value: NDArray[np.float32], flat: NDArray[np.float32], keep: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean of each row of a frame over that of the flat, of the pixels that were kept, less 1."""
    # Products, not sums that leave pixels out, which take five times as long.
    share = keep.astype(np.float32)
    over = np.einsum("yx,yx->y", value - flat, share).astype(np.float64)
    under = np.einsum("yx,yx->y", flat, share).astype(np.float64)
    ratio: NDArray[np.float64] = np.divide(over, under, out=np.zeros_like(over), where=under > 0)
    return ratio
