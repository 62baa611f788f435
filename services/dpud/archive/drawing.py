"""Draws the picture of a frame's image: PNG, which every browser shows."""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from dpu_recipes.frames import read_image
from dpud.archive.picture import MOST_PIXELS, Picture

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_WHITE = 255


def draw(file: Path, size: int = MOST_PIXELS) -> Picture:
    """Return the picture of a FITS file's image, its longer side at most `size`. Raises BadImage."""
    image, _ = read_image(file)
    binning = -(-max(image.shape) // size)
    small = _binned(image, binning)
    black, white = _greys(small)
    with np.errstate(invalid="ignore"):
        grey = np.clip((small - black) * (_WHITE / (white - black)), 0, _WHITE)
    # What is not a number is black; the first row of an image is its lowest.
    pixels = np.nan_to_num(grey).astype(np.uint8)[::-1]
    return Picture(_png(pixels), black, white, pixels.shape[1], pixels.shape[0], binning)


def _binned(image: NDArray[Any], binning: int) -> NDArray[np.float32]:
    """Return the means of squares of (y, x) pixels, of those at the upper and right edge of what is there."""
    height, width = image.shape
    padded = np.full((-(-height // binning), binning, -(-width // binning), binning), np.nan, np.float32)
    flat = padded.reshape(padded.shape[0] * binning, padded.shape[2] * binning)
    flat[:height, :width] = image
    with warnings.catch_warnings():
        # A square in which nothing is a number has no mean.
        warnings.simplefilter("ignore", RuntimeWarning)
        means: NDArray[np.float32] = np.nanmean(padded, axis=(1, 3), dtype=np.float32)
    return means


def _greys(image: NDArray[np.float32]) -> tuple[float, float]:
    """Return black and white by the zscale algorithm, or where that sees no difference, the least and greatest."""
    from astropy.visualization import ZScaleInterval

    known = image[np.isfinite(image)]
    if not known.size:
        return 0.0, 1.0
    black, white = map(float, ZScaleInterval().get_limits(known))
    if not black < white:
        black, white = float(known.min()), float(known.max())
    return black, white if black < white else black + 1.0


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """Return an image of one byte a pixel as PNG, its first row at the top."""
    png = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(png, "PNG")
    return png.getvalue()
