"""Hot pixels: those that stand out of the smooth background of a bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dpu_recipes.ccd.background import smooth_background
from dpu_recipes.ccd.statistics import clipped

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Times that the background is estimated anew without the pixels that stood out of it.
PASSES = 3


@dataclass(frozen=True, slots=True)
class HotPixels:
    """What stands out of a bias."""

    #: (y, x), True where a pixel is hot.
    hot: NDArray[np.bool_]
    #: ADU: the clipped standard deviation of the others about the background.
    sigma: float


def hot_pixels(bias: NDArray[np.float32], *, threshold: float, iterations: int, mesh: int = 64) -> HotPixels:
    """Return the pixels of `bias` : (y, x), float32, ADU, further than `threshold` sigma from its background.

    Bright and dark ones alike. The background is estimated again without the pixels found, so that bad columns and
    clusters, which fill much of a mesh, do not hide in a background that they have raised themselves.

    Parameters
    ----------
    bias : (y, x), float32, overscan-corrected, trimmed. Not changed.
    threshold : in clipped standard deviations of bias less background.
    iterations : of the clipping, at most.
    mesh : pixels, of the background.
    """
    hot = np.zeros(bias.shape, bool)
    sigma = 0.0
    for _ in range(PASSES):
        residual = bias - smooth_background(bias, mask=hot, mesh=mesh)
        sigma = clipped(residual, threshold=threshold, iterations=iterations).rms
        found = np.abs(residual) > threshold * sigma
        if np.array_equal(found, hot):
            break
        hot = found
    return HotPixels(hot, sigma)
