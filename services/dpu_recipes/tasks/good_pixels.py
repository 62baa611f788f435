"""Which pixels of a chip tell of light, by its bad-pixel maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpu_recipes.task import RecipeError
from dpu_recipes.tasks.product_image import image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dpu_recipes.frames import Frame
    from dpu_recipes.task import Request

#: Classes of the maps: 1 good, 0 bad.
MAPS = ("HotPixelMap", "ColdPixelMap")


def good_pixels(
    request: Request, frame: Frame, flat: NDArray[np.float32]
) -> tuple[NDArray[np.bool_], tuple[Frame, ...]]:
    """Return where the maps that are valid for `frame` say 1 and `flat` has a response, and the maps.

    Raises RecipeError for nowhere, and MissingCalibration.
    """
    maps = tuple(request.archive.calibration(name, frame) for name in MAPS)
    good = flat > 0
    for each in maps:
        good &= image(request, each, shape=flat.shape) == 1
    if not good.any():
        raise RecipeError(f"no pixel is good in {' and '.join(each.file_name for each in maps)}: make others")
    return good, maps
