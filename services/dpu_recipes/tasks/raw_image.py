"""Raw frames as images: mapped into memory, and checked before a recipe trusts them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpu_recipes.frames import BadImage, Frame, Regions, regions
from dpu_recipes.task import RecipeError, Request
from dpu_recipes.tasks.selection import listed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dpu_recipes.ccd.layer import Layer
    from dpu_recipes.ccd.overscan import Correction, Method

log = logging.getLogger(__name__)

#: One row in so many is looked at to see whether a frame is empty or saturated.
SAMPLED_ROWS = 16
#: Bytes of a whole number that float32 holds to the last digit, whatever it is.
LARGEST_EXACT = 2


@dataclass(frozen=True, slots=True)
class RawImage:
    """A raw frame whose pixels are mapped from its file: nothing is read before it is used."""

    frame: Frame
    #: (y, x), as stored; ADU are `pixels + zero`.
    pixels: NDArray[Any]
    zero: float
    regions: Regions
    #: ADU: where its pixels are full.
    saturation: float
    #: Overscan method of its camera.
    own_method: int

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

        return correction(method, self._strip_of(method) if method.strip else None)

    def _strip_of(self, method: Method) -> NDArray[np.float32]:
        """Return the strip that a method reads.

        The camera's own method reads, of an amplifier that is read from the other side, the strip at the other end.
        """
        place, axis = method.strip.split("_")
        names = [method.strip]
        if method == self.own_method:
            names.append(f"{'prescan' if place == 'overscan' else 'overscan'}_{axis}")
        for name in names:
            if (strip := self.strip(name)).size:
                if name != method.strip:
                    log.info("Overscan of %s : its %s, as it has no %s", self.frame.file_name, name, method.strip)
                return strip
        raise RecipeError(
            f"overscan method {method:d} needs a strip {method.strip}, which {self.frame.file_name} lacks; "
            "oc=0 needs none"
        )

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
        images.append(_mapped(request, frame))
    sizes = {image.frame.file_name: f"{image.pixels.shape[1]} x {image.pixels.shape[0]}" for image in images}
    if len(set(sizes.values())) > 1:
        raise RecipeError(f"the frames are of different sizes: {listed(sizes)}; name frames of one with raw=[...]")
    refused = {image.frame.file_name: reason for image in images if (reason := _defect(image))}
    return [image for image in images if image.frame.file_name not in refused], refused


def _mapped(request: Request, frame: Frame) -> RawImage:
    """Return a frame's image, mapped from its file. Raises RecipeError where the file holds no image."""
    import numpy as np
    from astropy.io import fits

    path = request.archive.open(frame)
    try:
        with fits.open(path, memmap=True, do_not_scale_image_data=True) as units:
            header, pixels = units[0].header, units[0].data
    except (OSError, ValueError, TypeError) as error:
        raise RecipeError(f"{frame.file_name} cannot be read: {error}") from error
    if pixels is None or pixels.ndim != 2 or header.get("BSCALE", 1) != 1:  # noqa: PLR2004 (an image has two axes)
        raise RecipeError(f"{frame.file_name} is no raw image of two axes in whole ADU")
    zero = header.get("BZERO", 0)
    if zero and pixels.dtype.kind == "i" and pixels.dtype.itemsize > LARGEST_EXACT:
        # Of such numbers float32 holds only the sum.
        pixels, zero = (pixels.astype(np.int64) + int(zero)).astype(np.float32), 0
    try:
        return RawImage(
            frame,
            pixels,
            float(zero),
            regions(frame, pixels.shape),
            saturation=_saturation(request, frame),
            own_method=request.instrument.overscan_method,
        )
    except BadImage as error:
        raise RecipeError(f"{frame.file_name}: {error}") from error


def _saturation(request: Request, frame: Frame) -> float:
    """Return where the pixels of a frame are full, ADU: as was taken down when it came in."""
    said = frame.values.get("SATURATE")
    return float(said) if isinstance(said, int | float) else request.instrument.chip(frame.chip).saturation


def _defect(image: RawImage) -> str:
    """Return what is wrong with an image; '' for nothing."""
    import numpy as np

    if image.pixels.dtype.kind == "f" and not np.isfinite(image.pixels).all():
        return "it has pixels that are not a number"
    sample = image.data[::SAMPLED_ROWS]
    if (sample == -image.zero).all():
        return "every pixel is zero"
    if np.median(sample) + image.zero >= image.saturation:
        return "it is saturated"
    return ""
