"""The pixels of a product that a recipe starts from, checked before it trusts them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dpu_recipes.frames import BadImage, Frame, read_image
from dpu_recipes.task import RecipeError, Request
from dpu_recipes.tasks.selection import is_good
from dpu_recipes.validity import make_call

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)


def image(request: Request, product: Frame, *, shape: tuple[int, ...] | None = None) -> NDArray[np.float32]:
    """Return the pixels of a product : (y, x), float32, the machine's byte order.

    Raises RecipeError where it may not be used: not valid, flagged, no image, not of `shape`, zero everywhere or with
    pixels that are not a number.
    """
    import numpy as np

    log.info("Using %s %s", product.frame_class, product.file_name)
    if not is_good(product):
        raise RecipeError(
            f"no {product.frame_class} of chip {product.chip} of night {product.night} may be used: the newest, "
            f"{product.file_name}, has is_valid={product.is_valid:d} and quality_flags={product.quality_flags}; "
            f"make one with {make_call(product.frame_class, product)}"
        )
    another = f"make another with {make_call(product.frame_class, product)}"
    try:
        pixels, _ = read_image(request.archive.open(product))
    except BadImage as error:
        raise RecipeError(f"{product.file_name}: {error}; {another}") from error
    if shape is not None and pixels.shape != shape:
        found, wanted = (f"{size[1]} x {size[0]}" for size in (pixels.shape, shape))
        raise RecipeError(f"{product.file_name} is {found}, and {wanted} is needed: {another}")
    if not np.isfinite(pixels).all():
        raise RecipeError(f"{product.file_name} has pixels that are not a number: {another}")
    if not pixels.any():
        raise RecipeError(f"{product.file_name} is zero everywhere: {another}")
    return pixels.astype(np.float32, copy=False)
