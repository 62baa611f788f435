"""The noise that a pixel of a CCD is expected to have, from which every limit, weight and floor follows."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseModel:
    """Photons and read-out: what a level of light scatters by."""

    #: e-/ADU.
    gain: float
    #: ADU, of one read-out, with what an overscan correction adds.
    read_noise: float

    def __post_init__(self) -> None:
        """Refuse a model by which nothing has noise, or everything has."""
        if not (0 < self.gain < math.inf and 0 <= self.read_noise < math.inf):
            raise ValueError(f"{self}: a gain above 0 and a read noise not below it are needed")

    def variance(self, level: float) -> float:
        """Return the variance, ADU^2, of a pixel whose light is `level` ADU; without light, or below it, that of 0."""
        return max(level, 0.0) / self.gain + self.read_noise**2

    def relative(self, level: float) -> float:
        """Return the noise of a pixel in units of its own `level`, which is above 0, ADU."""
        return math.sqrt(self.variance(level)) / level
