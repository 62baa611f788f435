"""The record of a product: where it comes from, how it was made, and when it may be used."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING

from dpu_recipes.frames import EPOCH, RAW, Frame
from dpu_recipes.tasks import quality_figure
from dpu_recipes.validity import CALIBRATIONS, IGNORING_FILTER_AND_OBJECT, window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dpu_recipes.figure import Panel
    from dpu_recipes.frames import Plain
    from dpu_recipes.task import Recipe, Request

log = logging.getLogger(__name__)


def product(
    recipe: Recipe,
    request: Request,
    made_from: Sequence[Frame],
    *,
    values: Mapping[str, Plain],
    overscan: int = RAW,
) -> Frame:
    """Return the record of what `recipe` makes from some frames; the first gives chip, filter, night and mode."""
    first = made_from[0]
    start, end = EPOCH, EPOCH
    if recipe.makes in CALIBRATIONS:
        start, end = window(recipe.makes, first.night, request.instrument.longitude_deg)
    return Frame(
        frame_class=recipe.makes,
        instrument=first.instrument,
        chip=first.chip,
        # What no light has reached carries the filter that happened to be there.
        filter="" if first.frame_class in IGNORING_FILTER_AND_OBJECT else first.filter,
        night=first.night,
        date_obs=first.date_obs,
        readout=first.readout,
        overscan=overscan,
        values=values,
        timestamp_start=start,
        timestamp_end=end,
        inputs=tuple(frame.id for frame in made_from),
        parameters=asdict(request.parameters),
    )


def save(request: Request, record: Frame, file: Path | None = None, panels: Sequence[Panel] = ()) -> None:
    """Stage a product, and the figure of its quality that `panels` make."""
    saved = request.archive.save(record, file)
    log.info("Made %s %s", saved.frame_class, saved.file_name or saved.id)
    if panels:
        quality_figure.save(request, record.evolve(id=saved.id), panels)
