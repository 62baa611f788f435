"""What a test of a recipe says: measured against `k x predicted error + named systematic`, both numbers printed.

One such statement holds for any size, depth and seed of a frame. The functions are for the tests of shipped code as
well as for the project's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Amplitudes: TypeAlias = "NDArray[np.floating]"
    Mask: TypeAlias = "NDArray[np.bool_]"

#: By how much rejection about the median widens the scatter of a mean of frames without outliers, by number of frames
#: and limit in sigma. Measured on drawn pixels; a test draws them anew.
CLIP_COST = {(5, 3.0): 1.025, (5, 5.0): 1.001, (10, 3.0): 1.018, (10, 5.0): 1.000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """How far a measured value may be off: `times` the predicted error, and a systematic that has a name."""

    #: What noise predicts, in the unit of the measured value.
    error: float
    times: float = 1.0
    systematic: float = 0.0
    #: Where the systematic comes from; needed where there is one.
    because: str = ""

    def __post_init__(self) -> None:
        """Refuse what would allow anything, or does not say why."""
        if not all(np.isfinite(value) and value >= 0 for value in (self.error, self.times, self.systematic)):
            raise ValueError(f"{self}: error, times and systematic are finite and not negative")
        if self.systematic and not self.because:
            raise ValueError(f"systematic {self.systematic:g} has no name: say where it comes from with because=")

    @property
    def total(self) -> float:
        """Return the sum."""
        return self.times * self.error + self.systematic

    def __str__(self) -> str:
        text = f"{self.times:g} x {self.error:.5g}"
        if self.systematic:
            text += f" + {self.systematic:.5g} ({self.because})"
        return f"{text} = {self.total:.5g}"


def assert_agrees(what: str, measured: float, truth: float, allowance: Allowance) -> None:
    """Print `measured` beside `truth`, and fail where they differ by more than `allowance`."""
    line = f"{what}: {measured:.5g}, truth {truth:.5g}, off by {measured - truth:+.3g}, allowed {allowance}"
    _state(line, held=abs(measured - truth) <= allowance.total)


def assert_noise(what: str, measured: float, allowance: Allowance) -> None:
    """Print a `measured` scatter beside its prediction, and fail where it is above `allowance`."""
    _state(f"{what}: {measured:.5g}, allowed {allowance}", held=measured <= allowance.total)


def assert_at_least(what: str, measured: float, wanted: float) -> None:
    """Print `measured`, and fail where it is below `wanted`."""
    _state(f"{what}: {measured:.6g}, at least {wanted:.6g}", held=measured >= wanted)


def assert_at_most(what: str, measured: float, wanted: float) -> None:
    """Print `measured`, and fail where it is above `wanted`."""
    _state(f"{what}: {measured:.6g}, at most {wanted:.6g}", held=measured <= wanted)


def rms(values: Amplitudes) -> float:
    """Return the root of the mean of the squares: about 0 and not about the mean, so that an offset counts."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def clipped_rms(values: Amplitudes, threshold: float = 5.0) -> float:
    """Return the standard deviation of what lies within `threshold` of it about the mean, clipped to convergence.

    For real frames, where nobody knows which pixels are bad.
    """
    kept = np.ravel(values).astype(np.float64)
    while True:
        near = np.abs(kept - kept.mean()) <= threshold * kept.std()
        if near.all():
            return float(kept.std())
        kept = kept[near]


def read_noise_error(read_noise: float, pixels: int) -> float:
    """Return the error that `pixels` differences of Gaussian noise leave in their rms over sqrt 2."""
    return float(read_noise / np.sqrt(2 * pixels))


def bias_noise(
    read_noise: float, frames: int, *, clip: float = 3.0, overscan_variance: float = 0.0, means: int = 1
) -> float:
    """Return the noise of a pixel in the clipped mean of biases: c rn sqrt((1 + v_oc/rn^2)/N).

    Parameters
    ----------
    read_noise
        Of one pixel of one frame, rounding included, ADU.
    frames, clip
        How many in one mean, and its rejection's limit in units of the read noise: a pair of CLIP_COST.
    means
        How many such means are averaged: 2 for half the difference of two.
    overscan_variance
        v_oc, of what was taken off each pixel, ADU^2: rn^2/n for the mean of n columns.
    """
    cost = CLIP_COST[frames, clip]
    return float(cost * np.sqrt((read_noise**2 + overscan_variance) / (frames * means)))


def completeness(found: Mask, amplitudes: Amplitudes, beyond: float) -> float:
    """Return the part of the pixels with an amplitude of at least `beyond` that was found."""
    wanted = amplitudes >= beyond
    if not wanted.any():
        raise ValueError(f"no pixel has an amplitude of at least {beyond:g}: there is nothing to find")
    return float(np.mean(found[wanted]))


def false_fraction(found: Mask, amplitudes: Amplitudes) -> float:
    """Return the part of all pixels that was found and has no amplitude."""
    return float(np.mean(found & (amplitudes == 0)))


def half_point(found: Mask, amplitudes: Amplitudes, edges: Sequence[float]) -> tuple[float, float]:
    """Return the amplitude at which half of the pixels are found, and its error at most (Spearman and Kaerber).

    Between the first of `edges`, below which next to nothing may be found, and the last, above which next to
    everything must be, the parts not found are summed: the estimate needs no shape of the curve, only bins narrower
    than it is wide.

    References
    ----------
    Finney, D. J., Statistical Method in Biological Assay, 3rd edition (1978), chapter 18.
    """
    point, variance = edges[0], 0.0
    for low, high in pairwise(edges):
        inside = (amplitudes >= low) & (amplitudes < high)
        count = int(inside.sum())
        if not count:
            raise ValueError(f"no pixel has an amplitude of {low:g} ... {high:g}: widen the bins")
        part = float(np.mean(found[inside]))
        point += (1 - part) * (high - low)
        # A bin with all or nothing found is not free of error: half a pixel more or less.
        part = min(max(part, 0.5 / count), 1 - 0.5 / count)
        variance += part * (1 - part) / count * (high - low) ** 2
    return point, float(np.sqrt(variance))


def _state(line: str, *, held: bool) -> None:
    print(line)  # noqa: T201 - pytest shows it beside a failure, and with -rP for all
    assert held, line  # noqa: S101 - that is what these functions are for
