"""The gain: how the variance of light grows with its level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpu_recipes.ccd.pairs import Pair

#: Pairs from which on, and the ratio of their highest to their lowest signal from which on, the quadratic term is
#: fitted; fewer, or nearer to each other, say nothing about it.
QUADRATIC_FROM, QUADRATIC_RANGE = 3, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotonTransfer:
    """V = S / gain + quadratic S^2, as some pairs have it."""

    #: e-/ADU, and its error: of the pixels' noise, more where the pairs scatter by more.
    gain: float
    error: float
    #: Per unit of S (ADU): how neighbours share charge (brighter-fatter), and non-linearity; 0 where it was not fitted.
    quadratic: float
    #: Chi^2 per degree of freedom; 0 where there is none.
    chi2: float
    count: int


def fitted(pairs: Sequence[Pair]) -> PhotonTransfer:
    """Return the gain that fits some pairs, at least one.

    V / S is fitted by a straight line in S, each pair weighted by its error; the gain is the inverse of its value at
    no light.

    Raises
    ------
    ValueError : where the variance does not grow with the signal.
    """
    signal = np.array([pair.signal for pair in pairs])
    slope = np.array([pair.variance for pair in pairs]) / signal
    error = np.array([pair.error for pair in pairs]) / signal
    curved = len(pairs) >= QUADRATIC_FROM and signal.max() >= QUADRATIC_RANGE * signal.min()
    top = signal.max()
    design = np.vander(signal / top, 2 if curved else 1, increasing=True) / error[:, np.newaxis]
    covariance = np.linalg.inv(design.T @ design)
    terms = covariance @ design.T @ (slope / error)
    freedom = len(pairs) - len(terms)
    chi2 = float(np.sum((slope / error - design @ terms) ** 2) / freedom) if freedom else 0.0
    if not terms[0] > 0:
        raise ValueError(f"the variance does not grow with the light: {terms[0]:.4g} ADU an ADU")
    return PhotonTransfer(
        gain=float(1 / terms[0]),
        error=float(np.sqrt(covariance[0, 0] * max(chi2, 1.0)) / terms[0] ** 2),
        quadratic=float(terms[1] / top) if curved else 0.0,
        chi2=chi2,
        count=len(pairs),
    )
