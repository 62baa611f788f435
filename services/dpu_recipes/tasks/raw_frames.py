"""The raw frames of a task: selected, split by chip and read-out mode, checked, and mapped into memory."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpu_recipes.archive import Selection
from dpu_recipes.frames import BadImage, Frame, Regions, regions
from dpu_recipes.instrument import InstrumentError
from dpu_recipes.task import Recipe, RecipeError, Request, TaskSpec
from dpu_recipes.validity import CALIBRATIONS

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

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
        return self._adu(self.pixels[getattr(self.regions, name)])

    def adu(self) -> NDArray[np.float32]:
        """Return the data area in ADU."""
        return self._adu(self.data)

    def _adu(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        import numpy as np

        return stored.astype(np.float32, order="C") + np.float32(self.zero)


def selected(request: Request, frame_class: str) -> list[Frame]:
    """Return the frames that the options ask for, in order of DATE-OBS and chip. Raises RecipeError for none."""
    log.info("Querying database for instances of class %s", frame_class)
    options = request.options
    names = options.get("raw_filenames") or []
    if names:
        return _named(request, frame_class, [names] if isinstance(names, str) else list(names))
    if not options["date"]:
        raise RecipeError("option 'date' (the night, d='CCYY-MM-DD') is required to select frames")
    chip = options["chip"]
    try:
        chips = (request.instrument.chip(chip).name,) if chip else ()
    except InstrumentError as error:
        raise RecipeError(str(error)) from error
    selection = Selection(instrument=request.instrument.name, night=options["date"], chips=chips)
    found = request.archive.select(frame_class, selection)
    if not found:
        raise RecipeError(_nothing(request, frame_class))
    return found


def split(request: Request, recipe: Recipe, *, at_most: int | None = None) -> list[TaskSpec]:
    """Return a task a chip and read-out mode; of each, the first `at_most` frames.

    Frames of a mode that has too few are left out, with a warning, where another mode of their chip has enough; else
    the chip's task gets them all, and refuses them. Frames that the user named go together, whatever their mode.
    """
    minimum = request.instrument.minimum(recipe.makes)
    together = bool(request.options.get("raw_filenames"))
    by_chip: dict[str, dict[str, list[Frame]]] = {}
    for frame in selected(request, recipe.selects):
        by_chip.setdefault(frame.chip, {}).setdefault("" if together else frame.readout, []).append(frame)
    specs = []
    for chip, by_mode in by_chip.items():
        enough = {mode: frames for mode, frames in by_mode.items() if len(frames) >= minimum}
        _warn_left_out(recipe, chip, by_mode, enough)
        groups = enough or {"": [frame for frames in by_mode.values() for frame in frames]}
        for mode, frames in groups.items():
            label = chip if len(groups) == 1 else f"{chip} {mode}"
            specs.append(TaskSpec(label=label, inputs=tuple(frame.id for frame in frames[:at_most])))
    return specs


def inputs(request: Request, recipe: Recipe, spec: TaskSpec) -> list[Frame]:
    """Return the frames of a task. Raises RecipeError where they are too few, or do not go together."""
    log.info("Querying database for instances of class %s", recipe.selects)
    frames = [request.archive.find(identifier) for identifier in spec.inputs]
    _check_alike(frames, "chip", "chips")
    _check_alike(frames, "readout", "read-out modes")
    minimum = request.instrument.minimum(recipe.makes)
    if len(frames) < minimum:
        found = ", ".join(frame.file_name for frame in frames) or "none"
        raise RecipeError(
            f"{recipe.name} needs at least {minimum} frames of class {recipe.selects} of chip "
            f"{frames[0].chip if frames else spec.label}, found {len(frames)}: {found}"
        )
    return frames


def opened(request: Request, frames: list[Frame]) -> list[RawImage]:
    """Return the images of frames. Raises RecipeError that names each frame which is no good, and why."""
    images = []
    for frame in frames:
        log.info("Using %s %s", frame.frame_class, frame.file_name)
        images.append(_mapped(frame, request.archive.open(frame)))
    sizes = {image.frame.file_name: f"{image.pixels.shape[1]} x {image.pixels.shape[0]}" for image in images}
    if len(set(sizes.values())) > 1:
        raise RecipeError(f"the frames are of different sizes: {_listed(sizes)}; name frames of one with raw=[...]")
    saturation = request.instrument.chip(frames[0].chip).saturation
    refused = {image.frame.file_name: reason for image in images if (reason := _defect(image, saturation))}
    if refused:
        raise RecipeError(f"no good: {_listed(refused)}; name the good frames with raw=[...]")
    return images


def _named(request: Request, frame_class: str, names: list[str]) -> list[Frame]:
    """Return the frames of some files, or of the exposures that they came from. Raises RecipeError."""
    found: dict[str, Frame] = {}
    missing = []
    for name in names:
        selection = Selection(instrument=request.instrument.name, file_names=(name,))
        frames = request.archive.select(frame_class, selection)
        found.update((frame.id, frame) for frame in frames)
        if not frames:
            missing.append(name)
    if missing:
        of_class = f"{frame_class} of {request.instrument.name}"
        raise RecipeError(f"no {of_class} in the archive is named {', '.join(map(repr, missing))}")
    return sorted(found.values(), key=lambda frame: (frame.date_obs, frame.chip))


def _nothing(request: Request, frame_class: str) -> str:
    """Return what to say where a night has no frame of a class: of a calibration, the call that makes one."""
    instrument, night, chip = request.instrument.name, request.options["date"], request.options["chip"]
    found = f"there is no {frame_class} of {instrument}{f' chip {chip}' if chip else ''} of night {night}"
    if frame_class not in CALIBRATIONS:
        return f"{found}; `awe ingest` brings raw frames in"
    arguments = f"i={instrument!r}, d={night!r}" + (f", c={chip!r}" if chip else "")
    return f"{found}; make it with dpu.run({CALIBRATIONS[frame_class].sequence!r}, {arguments}, C=1)"


def _warn_left_out(recipe: Recipe, chip: str, by_mode: dict[str, list[Frame]], enough: dict[str, list[Frame]]) -> None:
    for mode, frames in by_mode.items():
        if enough and mode not in enough:
            names = ", ".join(frame.file_name for frame in frames)
            log.warning("%s of chip %s leaves out %s: too few of read-out mode %s", recipe.name, chip, names, mode)


def _check_alike(frames: list[Frame], name: str, what: str) -> None:
    found = {frame.file_name: str(getattr(frame, name)) for frame in frames}
    if len(set(found.values())) > 1:
        raise RecipeError(f"the frames are of different {what}: {_listed(found)}; name frames of one with raw=[...]")


def _listed(reasons: dict[str, str]) -> str:
    """Return 'a.fits (2x2), b.fits (1x1)'."""
    return ", ".join(f"{name} ({reason})" for name, reason in reasons.items())


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
