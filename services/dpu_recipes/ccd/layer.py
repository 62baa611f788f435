"""One frame of a stack, as it lies on disk, and how it becomes ADU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One frame of a stack: pixels that may still lie on disk, and how they become ADU."""

    #: (y, x), any type and byte order; a memory map is read block by block.
    pixels: NDArray[Any]
    #: Broadcasts against `pixels`: subtracted from each (the overscan's level).
    level: NDArray[np.float32]
    #: ADU = pixels + zero - level: the BZERO of stored unsigned numbers.
    zero: float = 0.0

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows `start` to `stop`, in ADU, as a new array."""
        block = self.pixels[start:stop].astype(np.float32, order="C")
        level = self.level[start:stop] if self.level.shape[0] > 1 else self.level
        # First the whole number, which float32 holds to the last digit, then the fraction.
        block += np.float32(self.zero)
        block -= level
        return block
