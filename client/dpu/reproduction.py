"""A product made again as it was made: the same code, inputs, options and calibrations; and how the two compare."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

from dpu.errors import DpuError, UsageError
from dpu.products import Product, find_frame, frames_of, to_product
from dpu.values import Plain, from_map, to_map
from dpu_api.v1.catalogue_pb2 import Sequence
from dpu_api.v1.job_pb2 import TaskSpec
from dpu_api.v1.scheduler_pb2 import SubmitJobRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dpu.link import Link
    from dpu_api.v1.archive_pb2 import Frame
    from dpu_api.v1.catalogue_pb2 import Catalogue

#: The argument by which a task knows that it makes a product again (dpu_recipes.registry).
AGAIN = "as was made"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Reproduction:
    """A product, and what came of making it again."""

    product: Product
    #: The job's own: it was not committed.
    again: Product
    #: Pixels in all, those that differ, and the largest difference; none of a product that is only values.
    pixels: int = 0
    differing: int = 0
    largest: float = 0.0
    #: What was measured otherwise, by name: before and now.
    values: Mapping[str, tuple[Plain, Plain]]

    @property
    def same(self) -> bool:
        """Whether no pixel and no value differs."""
        return not (self.differing or self.values)

    def __repr__(self) -> str:
        name = self.product.file_name
        what = f"all {self.pixels} pixels and all values are the same" if self.pixels else "all values are the same"
        if self.same:
            return f"{name} was made again: {what}"
        lines = [f"  {key}: {before!r} before, {now!r} now" for key, (before, now) in self.values.items()]
        if self.differing:
            lines.insert(0, f"  {self.differing} of {self.pixels} pixels differ, by {self.largest:g} at most")
        return "\n".join([f"{name} was made again, and is another:", *lines])


def reproduce(link: Link, catalogue: Catalogue, what: object, wait: Callable[[int], str]) -> Reproduction:
    """Make a product again and compare. Raises NotFound, and UsageError where it cannot be made again."""
    frame = find_frame(link, what)
    job_id = _submit(link, catalogue, frame)
    state = wait(job_id)
    made = [item for item in frames_of(link, job_id=job_id, only_job=True) if item.frame_class == frame.frame_class]
    if state != "FINISHED" or len(made) != 1:
        raise UsageError(
            f"{frame.file_name} could not be made again: job {job_id} has ended as {state}, "
            f"dpu.get_logs({job_id}) says why"
        )
    (again,) = made
    pixels, differing, largest = _pixels(link, frame, again)
    return Reproduction(
        product=to_product(frame),
        again=to_product(again),
        pixels=pixels,
        differing=differing,
        largest=largest,
        values=different(from_map(frame.values), from_map(again.values)),
    )


def different(before: Mapping[str, Plain], now: Mapping[str, Plain]) -> dict[str, tuple[Plain, Plain]]:
    """Return what is not the same in both; what was measured as not-a-number twice is."""
    names = sorted({*before, *now})
    pairs = {name: (before.get(name), now.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and not all(map(_is_nan, pair))}


def _submit(link: Link, catalogue: Catalogue, frame: Frame) -> int:
    """Submit the one task that made a product, and return the job."""
    if not frame.making:
        kind = "a raw frame" if not frame.ref.job_id else "from before it was noted how products are made"
        raise UsageError(f"{frame.file_name} is {kind}: it cannot be made again")
    call: dict[str, Any] = json.loads(frame.making)
    spec = TaskSpec(label=frame.chip, inputs=call["inputs"], arguments=to_map({**call["arguments"], AGAIN: frame.id}))
    request = SubmitJobRequest(
        request_id=str(uuid.uuid4()),
        sequence=_stage_of(catalogue, str(call["recipe"])),
        options=to_map(call["options"]),
        code_digest=frame.code_digest,
        tasks=[spec],
    )
    return link.ask(lambda services: services.scheduler.SubmitJob, request).job.id


def _stage_of(catalogue: Catalogue, recipe: str) -> Sequence:
    """Return a sequence of one recipe alone, with all options that it may have been given."""
    using = [item for item in catalogue.sequences if any(stage.recipe == recipe for stage in item.stages)]
    if not using:
        raise UsageError(f"the recipes in use have no {recipe!r} any more: use the checkout that has it")
    options = {option.long_name: option for item in using for option in item.options}
    stage = next(stage for stage in using[0].stages if stage.recipe == recipe)
    return Sequence(name=recipe, summary=f"Make a {stage.makes} again", options=options.values(), stages=[stage])


def _pixels(link: Link, frame: Frame, again: Frame) -> tuple[int, int, float]:
    """Return how many pixels there are, how many differ, and by how much at most."""
    if not (frame.size and again.size):
        return 0, 0, 0.0
    from dpu.lab import compared

    try:
        return compared(link, frame, again)
    except DpuError as error:
        raise UsageError(f"{frame.file_name} cannot be compared: {error.message}") from error


def _is_nan(value: Plain) -> bool:
    return isinstance(value, float) and isnan(value)
