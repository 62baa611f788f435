"""A dry run: what the tasks of a stage would do, told by its plan, which makes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpu_recipes.archive import MissingCalibration
from dpu_recipes.deep import BY_METHOD, needs
from dpu_recipes.frames import RAW

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dpu_recipes.frames import Frame
    from dpu_recipes.task import Recipe, Request, TaskSpec


@dataclass(frozen=True, slots=True)
class Part:
    """One task of a plan, as it would run."""

    recipe: Recipe
    request: Request
    spec: TaskSpec
    #: The product that stands, where it would not be made again.
    made: Frame | None


def told(recipe: Recipe, parts: Sequence[Part]) -> Iterator[str]:
    """Yield a line for each task of a stage, then one for all of them."""
    to_run = [part for part in parts if part.made is None]
    lacking = 0
    for part in parts:
        label = part.spec.label
        if part.made is not None:
            yield f"{recipe.name} of {label} : exists, {part.made.file_name}, and would not be made again"
            continue
        inputs = part.spec.inputs
        yield f"{recipe.name} of {label} : would be made from {len(inputs)} {_class_of(part)}"
        missing = _missing(part)
        if part.request.options.get("deep"):
            yield from (f"{recipe.name} of {label} : waits for a {name} of a stage before" for name in missing)
        else:
            lacking += bool(missing)
            yield from (f"{recipe.name} of {label} : lacks a {name}: {why}" for name, why in missing.items())
    seconds = sum(part.spec.seconds or recipe.seconds for part in to_run)
    lacks = f", {lacking} of them without what they need" if lacking else ""
    long = f"; about {max(seconds, 1):.0f} s on one processor" if to_run else ""
    there = _counted(len(parts) - len(to_run), "product")
    yield f"{recipe.name} : {_counted(len(to_run), 'task')} would run{lacks}, {there} there already{long}"


def _class_of(part: Part) -> str:
    """Return the class of what a task starts from."""
    inputs = part.spec.inputs
    return part.request.archive.find(inputs[0]).frame_class if inputs else part.recipe.selects


def _missing(part: Part) -> dict[str, str]:
    """Return what the archive says of each class of calibrations that a task would ask for in vain."""
    archive, options = part.request.archive, part.request.options
    frame = archive.find(part.spec.inputs[0])
    method = options.get("overscan", None if frame.overscan == RAW else frame.overscan)
    missing = {}
    for frame_class in needs(part.recipe.name, options):
        try:
            archive.calibration(frame_class, frame, overscan=method if frame_class in BY_METHOD else None)
        except MissingCalibration as error:
            missing[frame_class] = str(error)
    return missing


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
