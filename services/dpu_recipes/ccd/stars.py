"""Stars in a twilight flat: light that one frame has and the others, pointed elsewhere, have not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from dpu_recipes.ccd.background import smooth_background

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Pixels a side of the bins in which stars are looked for.
BIN = 2
#: Bins: of the Gaussian by which they are smoothed. About a star's own, so that its light stands out best.
SMOOTHING = 1.0
#: A star has a bin so many sigma above the sky, and reaches as far as bins next to each other are above the second.
CORE, SKIRT = 3.5, 2.0
#: Its light goes on where it is lost in the noise: by so much of its radius, which is that of the largest circle in it
#: (a trail's is half of its width, however long it is), and so many bins more.
HALO, RIM = 0.5, 1.0
#: Bins of a mesh of the sky.
MESH = 32


def stars(residual: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where stars are in `residual` : (y, x), float32, a frame less its flat in bins.

    Sky that is brighter on one side is no star: a smooth background is taken off. The noise is that of the smoothed
    bins themselves (their central 68 %). Cosmic rays and trails are found too.
    """
    over = ndimage.gaussian_filter(residual - smooth_background(residual, mesh=MESH), SMOOTHING)
    low, high = np.percentile(over, (15.87, 84.13))
    sigma = (high - low) / 2
    everywhere = np.ones((3, 3), bool)
    groups, number = ndimage.label(over > SKIRT * sigma, structure=everywhere)
    bright = np.zeros(number + 1, bool)
    bright[groups[over > CORE * sigma]] = True
    # Noise has made most of the groups: what is done a group is done for stars alone.
    labels, _ = ndimage.label(bright[groups], structure=everywhere)
    found = np.zeros(residual.shape, bool)
    for place, box in enumerate(ndimage.find_objects(labels), 1):
        inside = ndimage.distance_transform_edt(labels[_wider(box, 1)] == place)
        reach = HALO * (float(inside.max()) - 0.5) + RIM
        around = _wider(box, math.ceil(reach))
        found[around] |= ndimage.distance_transform_edt(labels[around] != place) <= reach
    return found


def _wider(box: tuple[slice, ...], margin: int) -> tuple[slice, ...]:
    return tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in box)


def spread(bins: NDArray[np.bool_], start: int, stop: int, width: int) -> NDArray[np.bool_]:
    """Return `bins` : (y, x) as pixels, rows `start` to `stop` of `width`; those beyond the last bin are as it is."""
    rows = np.minimum(np.arange(start, stop) // BIN, bins.shape[0] - 1)
    columns = np.minimum(np.arange(width) // BIN, bins.shape[1] - 1)
    found: NDArray[np.bool_] = bins[rows][:, columns]
    return found
