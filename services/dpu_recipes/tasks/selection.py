"""The frames of a stage: selected, split by chip, filter and read-out mode, and checked to go together."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from dpu_recipes import header as headers
from dpu_recipes.archive import Selection
from dpu_recipes.header import HeaderError
from dpu_recipes.instrument import InstrumentError
from dpu_recipes.night import night_of
from dpu_recipes.task import Recipe, RecipeError, Request, TaskSpec
from dpu_recipes.validity import CALIBRATIONS, IGNORING_FILTER_AND_OBJECT

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from dpu_recipes.frames import Frame

log = logging.getLogger(__name__)

#: What frames of one product have in common beside their chip: filter ('' where it does not matter), read-out mode.
Kind: TypeAlias = "tuple[str, str]"


def selected(request: Request, frame_class: str) -> list[Frame]:
    """Return the frames that the options ask for, in order of DATE-OBS and chip. Raises RecipeError for none."""
    log.info("Querying database for instances of class %s", frame_class)
    options = request.options
    names = options.get("raw_filenames") or []
    if names:
        return _named(request, frame_class, [names] if isinstance(names, str) else list(names))
    template = _template(request)
    night = options["date"] or (str(night_of(template, request.instrument.longitude_deg)) if template else "")
    if not night:
        raise RecipeError("option 'date' (the night, d='CCYY-MM-DD') is required to select frames")
    chip = options["chip"]
    try:
        chips = (request.instrument.chip(chip).name,) if chip else ()
    except InstrumentError as error:
        raise RecipeError(str(error)) from error
    selection = Selection(
        instrument=request.instrument.name, night=night, chips=chips, filter=options.get("filter", "")
    )
    found = request.archive.select(frame_class, selection)
    if not found:
        raise RecipeError(_nothing(request, frame_class, night))
    return _of_template(found, template) if template else found


def split(request: Request, recipe: Recipe, *, at_most: int | None = None) -> list[TaskSpec]:
    """Return a task a chip, read-out mode and, where the product serves one only, filter; the first `at_most` frames.

    Frames of a kind that has too few are left out, with a warning, where another kind of their chip has enough; else
    the chip's task gets them all, and refuses them. Frames that the user named go together, whatever their kind.
    """
    minimum = request.instrument.minimum(recipe.makes)
    together = bool(request.options.get("raw_filenames"))
    by_chip: dict[str, dict[Kind, list[Frame]]] = {}
    for frame in selected(request, recipe.selects):
        kind = ("", "") if together else _kind(recipe, frame)
        by_chip.setdefault(frame.chip, {}).setdefault(kind, []).append(frame)
    specs = []
    for chip, by_kind in by_chip.items():
        enough = {kind: frames for kind, frames in by_kind.items() if len(frames) >= minimum}
        _warn_left_out(recipe, chip, by_kind, enough)
        groups = enough or {("", ""): [frame for frames in by_kind.values() for frame in frames]}
        for kind, frames in groups.items():
            inputs = tuple(frame.id for frame in frames[:at_most])
            specs.append(TaskSpec(label=_label(chip, kind, groups), inputs=inputs))
    return specs


def newest(request: Request, recipe: Recipe) -> list[TaskSpec]:
    """Return a task a chip and kind: the newest good product of the night, else the newest, for the task to refuse it.

    One of the instrument's own overscan method goes before others: structure that another leaves hides pixels.
    """
    best: dict[str, dict[Kind, Frame]] = {}
    method = request.instrument.overscan_method

    def rank(frame: Frame) -> tuple[bool, bool, datetime]:
        return is_good(frame), frame.overscan == method, frame.creation_date

    for frame in _of_first(request, recipe.starts_from(request.options)):
        of_chip, kind = best.setdefault(frame.chip, {}), _kind(recipe, frame)
        of_chip[kind] = max(of_chip.get(kind, frame), frame, key=rank)
    return [
        TaskSpec(label=_label(chip, kind, of_chip), inputs=(frame.id,))
        for chip, of_chip in sorted(best.items())
        for kind, frame in sorted(of_chip.items())
    ]


def _of_first(request: Request, classes: tuple[str, ...]) -> list[Frame]:
    """Return the frames of the first class that has some. Raises RecipeError for none, which tells of the best."""
    best, *others = classes
    try:
        return selected(request, best)
    except RecipeError:
        for other in others:
            with suppress(RecipeError):
                return selected(request, other)
        raise


def is_good(product: Frame) -> bool:
    """Return whether other recipes may choose a product."""
    return product.is_valid and not product.quality_flags


def inputs(request: Request, recipe: Recipe, spec: TaskSpec) -> list[Frame]:
    """Return the frames of a task. Raises RecipeError where they are too few, or do not go together."""
    classes = " or ".join(recipe.starts_from(request.options))
    log.info("Querying database for instances of class %s", classes)
    frames = [request.archive.find(identifier) for identifier in spec.inputs]
    _check_alike(frames, "chip", "chips")
    _check_alike(frames, "readout", "read-out modes")
    if _is_by_filter(recipe):
        _check_alike(frames, "filter", "filters")
    minimum = request.instrument.minimum(recipe.makes)
    if len(frames) < minimum:
        found = ", ".join(frame.file_name for frame in frames) or "none"
        raise RecipeError(
            f"{recipe.name} needs at least {minimum} frames of class {classes} of chip "
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


def _template(request: Request) -> datetime | None:
    """Return the start of the template that is asked for, None for any. Raises RecipeError."""
    asked = request.options.get("template")
    try:
        return headers.moment({"template": asked}, ["template"]) if asked else None
    except HeaderError as error:
        raise RecipeError(f"option {error}") from error


def _of_template(frames: list[Frame], template: datetime) -> list[Frame]:
    """Return the frames that one template took. Raises RecipeError, with the templates that there are, for none."""
    starts = {frame.id: str(frame.values.get("TPLSTART", "")) for frame in frames}
    found = [frame for frame in frames if _is_at(starts[frame.id], template)]
    if not found:
        known = ", ".join(sorted({start for start in starts.values() if start})) or "none"
        raise RecipeError(
            f"no template of night {frames[0].night} took {frames[0].frame_class} from {template:%FT%T} on; "
            f"templates that did began: {known}"
        )
    return found


def _is_at(start: str, template: datetime) -> bool:
    """Return whether a header's start of a template is that of `template`, to the second."""
    try:
        return abs(headers.moment({"TPLSTART": start}, ["TPLSTART"]) - template) < timedelta(seconds=1)
    except HeaderError:
        return False


def _nothing(request: Request, frame_class: str, night: str) -> str:
    """Return what to say where a night has no frame of a class: of a calibration, the call that makes one."""
    instrument, chip = request.instrument.name, request.options["chip"]
    through = request.options.get("filter", "")
    words = [f" chip {chip}" if chip else "", f" filter {through}" if through else ""]
    found = f"there is no {frame_class} of {instrument}{''.join(words)} of night {night}"
    if frame_class not in CALIBRATIONS:
        return f"{found}; `awe ingest` brings raw frames in"
    arguments = f"i={instrument!r}, d={night!r}" + (f", c={chip!r}" if chip else "")
    if through and CALIBRATIONS[frame_class].by_filter:
        arguments += f", f={through!r}"
    return f"{found}; make it with dpu.run({CALIBRATIONS[frame_class].sequence!r}, {arguments}, C=1)"


def _is_by_filter(recipe: Recipe) -> bool:
    known = CALIBRATIONS.get(recipe.makes)
    return known.by_filter if known else recipe.selects not in IGNORING_FILTER_AND_OBJECT


def _kind(recipe: Recipe, frame: Frame) -> Kind:
    return frame.filter if _is_by_filter(recipe) else "", frame.readout


def _label(chip: str, kind: Kind, among: Collection[Kind]) -> str:
    """Return 'ccd50', with what tells its kind from the others of the chip: 'ccd50 #842'."""
    return " ".join([chip, *(part for place, part in enumerate(kind) if len({other[place] for other in among}) > 1)])


def _warn_left_out(
    recipe: Recipe, chip: str, by_kind: dict[Kind, list[Frame]], enough: dict[Kind, list[Frame]]
) -> None:
    for kind, frames in by_kind.items():
        if enough and kind not in enough:
            names = ", ".join(frame.file_name for frame in frames)
            through, mode = kind
            of = f"filter {through}, read-out mode {mode}" if through else f"read-out mode {mode}"
            log.warning("%s of chip %s leaves out %s: too few of %s", recipe.name, chip, names, of)


def _check_alike(frames: list[Frame], name: str, what: str) -> None:
    found = {frame.file_name: str(getattr(frame, name)) for frame in frames}
    if len(set(found.values())) > 1:
        raise RecipeError(f"the frames are of different {what}: {listed(found)}; name frames of one with raw=[...]")
