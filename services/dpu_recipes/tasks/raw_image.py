"""Raw frames as images: mapped into memory, and checked before a recipe trusts them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpu_recipes.frames import BadImage, Frame, Regions, regions
from dpu_recipes.task import RecipeError, Request
from dpu_recipes.tasks.selection import listed

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from dpu_recipes.ccd.layer import Layer
    from dpu_recipes.ccd.overscan import Correction, Method

log = logging.getLogger(__name__)

#: One row in so many is looked at to see whether a frame is empty or saturated.
SAMPLED_ROWS = 16


@dataclass(frozen=True, slots=True)
class RawImage:
    """A raw frame whose pixels are mapped from its file: nothing is read before it is used."""

    frame: Frame
    #: (y, x), as stored; ADU are `pixels + zero`.
    pixels: NDArray[Any]
    zero: float
    regions: Regions

    @property
    def data(self) -> NDArray[Any]:
        """Return the stored pixels of the data area, still mapped."""
        return self.pixels[self.regions.data]

    def strip(self, name: str) -> NDArray[np.float32]:
        """Return a strip, 'overscan_x', in ADU."""
        import numpy as np

        strip: NDArray[np.float32] = self.pixels[getattr(self.regions, name)].astype(np.float32)
        return strip + np.float32(self.zero)

    def correction(self, method: Method) -> Correction:
        """Return what overscan `method` takes off the data. Raises RecipeError where there is no strip for it."""
        from dpu_recipes.ccd.overscan import correction

        strip = self.strip(method.strip) if method.strip else None
        if strip is not None and not strip.size:
            raise RecipeError(
                f"overscan method {method:d} needs a strip {method.strip}, which {self.frame.file_name} lacks; "
                "oc=0 needs none"
            )
        return correction(method, strip)

    def layer(self, correction: Correction) -> Layer:
        """Return its data as a layer of a stack, less what an overscan correction takes off."""
        from dpu_recipes.ccd.layer import Layer

        return Layer(pixels=self.data, level=correction.level, zero=self.zero)


def opened(request: Request, frames: list[Frame]) -> list[RawImage]:
    """Return the images of frames. Raises RecipeError that names each frame which is no good, and why."""
    images, refused = sorted_out(request, frames)
    if refused:
        raise RecipeError(f"no good: {listed(refused)}; name the good frames with raw=[...]")
    return images


def sorted_out(request: Request, frames: list[Frame]) -> tuple[list[RawImage], dict[str, str]]:
    """Return the images of frames that are good, and by file name what is wrong with the others.

    Raises RecipeError where a frame cannot be read, or they are of different sizes.
    """
    images = []
    for frame in frames:
        log.info("Using %s %s", frame.frame_class, frame.file_name)
        images.append(_mapped(frame, request.archive.open(frame)))
    sizes = {image.frame.file_name: f"{image.pixels.shape[1]} x {image.pixels.shape[0]}" for image in images}
    if len(set(sizes.values())) > 1:
        raise RecipeError(f"the frames are of different sizes: {listed(sizes)}; name frames of one with raw=[...]")
    saturation = request.instrument.chip(frames[0].chip).saturation
    refused = {image.frame.file_name: reason for image in images if (reason := _defect(image, saturation))}
    return [image for image in images if image.frame.file_name not in refused], refused


def _mapped(frame: Frame, path: Path) -> RawImage:
    """Return a frame's image, mapped from its file. Raises RecipeError where the file holds no image."""
    from astropy.io import fits

    try:
        with fits.open(path, memmap=True, do_not_scale_image_data=True) as units:
            header, pixels = units[0].header, units[0].data
    except (OSError, ValueError, TypeError) as error:
        raise RecipeError(f"{frame.file_name} cannot be read: {error}") from error
    if pixels is None or pixels.ndim != 2 or header.get("BSCALE", 1) != 1:  # noqa: PLR2004 (an image has two axes)
        raise RecipeError(f"{frame.file_name} is no raw image of two axes in whole ADU")
    try:
        return RawImage(frame, pixels, float(header.get("BZERO", 0)), regions(frame, pixels.shape))
    except BadImage as error:
        raise RecipeError(f"{frame.file_name}: {error}") from error


def _defect(image: RawImage, saturation: float) -> str:
    """Return what is wrong with an image; '' for nothing."""
    import numpy as np

    if image.pixels.dtype.kind == "f" and not np.isfinite(image.pixels).all():
        return "it has pixels that are not a number"
    sample = image.data[::SAMPLED_ROWS]
    if (sample == -image.zero).all():
        return "every pixel is zero"
    if np.median(sample) + image.zero >= saturation:
        return "it is saturated"
    return ""
