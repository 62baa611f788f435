"""The frames of a stage: selected, split by chip and read-out mode, and checked to go together."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dpu_recipes.archive import Selection
from dpu_recipes.instrument import InstrumentError
from dpu_recipes.task import Recipe, RecipeError, Request, TaskSpec
from dpu_recipes.validity import CALIBRATIONS

if TYPE_CHECKING:
    from dpu_recipes.frames import Frame

log = logging.getLogger(__name__)


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


def listed(reasons: dict[str, str]) -> str:
    """Return 'a.fits (2x2), b.fits (1x1)'."""
    return ", ".join(f"{name} ({reason})" for name, reason in reasons.items())


def _named(request: Request, frame_class: str, names: list[str]) -> list[Frame]:
    """Return the frames of some files, or of the exposures that they came from. Raises RecipeError."""
    instrument = request.instrument.name
    found: dict[str, Frame] = {}
    missing = []
    for name in names:
        selection = Selection(instrument=instrument, file_names=(name,))
        # A file name overrides the rest of a selection, the instrument too.
        frames = [frame for frame in request.archive.select(frame_class, selection) if frame.instrument == instrument]
        found.update((frame.id, frame) for frame in frames)
        if not frames:
            missing.append(name)
    if missing:
        raise RecipeError(f"no {frame_class} of {instrument} in the archive is named {', '.join(map(repr, missing))}")
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
        raise RecipeError(f"the frames are of different {what}: {listed(found)}; name frames of one with raw=[...]")
