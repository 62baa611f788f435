"""Linearity: what was counted against what fell on the CCD, by flats of a steady lamp and several exposure times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Levels from which on it can be told from the lamp's scatter.
LEVELS = 4
#: A level a tenth above another is another.
_APART = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Linearity:
    """Light = counted (1 + first counted + second counted^2), counted in ADU above overscan and bias."""

    #: 1/ADU and 1/ADU^2.
    first: float
    second: float
    #: Rms of the flats about the fit, part of their light: the lamp, the shutter, and what a parabola cannot follow.
    scatter: float
    #: What that leaves in the light, at worst up to `highest`, part of it.
    error: float
    #: The highest level among the flats, ADU.
    highest: float

    def corrected(self, counted: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the light of what was counted, ADU, as a new array of the same type."""
        light: NDArray[np.floating] = counted * (1 + counted * (self.first + self.second * counted))
        return light

    def departure(self, up_to: float) -> float:
        """Return the largest part of the light that is not counted, or too much, of any level `up_to`, ADU."""
        counted = np.linspace(0, up_to, 101)[1:]
        return float(np.abs(counted / self.corrected(counted) - 1).max())


def fitted(counted: Sequence[float], seconds: Sequence[float]) -> Linearity:
    """Return the linearity of flats of one lamp and filter.

    Parameters
    ----------
    counted : mean light of each flat, ADU above overscan and bias.
    seconds : exposure time of each.

    Raises
    ------
    ValueError : for fewer than LEVELS levels.

    Notes
    -----
    Of a steady lamp, time over counts is 1 + first counted + second counted^2 but for a factor: a parabola fitted to
    it, each flat alike, since the lamp's scatter is part of its light and far above that of the photons.
    """
    count, time = np.array(counted), np.array(seconds)
    different = 1 + int(np.count_nonzero(np.diff(np.log(np.sort(count))) > np.log(_APART)))
    if different < LEVELS:
        raise ValueError(f"{different} levels are too few: {LEVELS} are needed, each a tenth above the one below it")
    top = float(count.max())
    design = np.vander(count / top, 3, increasing=True)
    inverse = np.linalg.inv(design.T @ design)
    terms = inverse @ design.T @ (time / count)
    relative = time / count / (design @ terms) - 1
    scatter = float(np.sqrt(np.sum(relative**2) / (len(count) - 3))) if len(count) > len(terms) else 0.0
    # Of the light over that of little light: what errs is the ratio of the parabola to its value at nothing.
    levels = np.vander(np.linspace(0, 1, 51), 3, increasing=True)
    off = levels - np.outer(levels @ terms / terms[0], (1, 0, 0))
    error = scatter * float(np.sqrt(np.einsum("ij,jk,ik->i", off, inverse, off).max()))
    return Linearity(
        first=float(terms[1] / terms[0] / top),
        second=float(terms[2] / terms[0] / top**2),
        scatter=scatter,
        error=error,
        highest=top,
    )
