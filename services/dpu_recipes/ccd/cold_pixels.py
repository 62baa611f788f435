"""Cold pixels: those whose response to light is far off that of their neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dpu_recipes.ccd.background import smooth_background

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Times that the background is estimated anew without the pixels that were off it.
PASSES = 3


def cold_pixels(flat: NDArray[np.float32], *, low: float, high: float, mesh: int = 64) -> NDArray[np.bool_]:
    """Return where `flat` : (y, x), float32, over its smooth background is outside of `low` ... `high`.

    Bright deviants are cold pixels, too: they are no better known. The background is estimated again without the
    pixels found, so that bad columns and clusters do not hide in a background that they have moved themselves. Where
    there is no light to compare with (a background of 0 or below), a pixel is bad.

    Parameters
    ----------
    flat : any scale. Not changed.
    low, high : of the background.
    mesh : pixels, of the background.
    """
    cold = np.zeros(flat.shape, bool)
    for _ in range(PASSES):
        background = smooth_background(flat, mask=cold, mesh=mesh)
        # Not `outside`: a comparison with what is not a number must not pass.
        found = ~((background > 0) & (flat >= low * background) & (flat <= high * background))
        if np.array_equal(found, cold):
            break
        cold = found
    return cold
