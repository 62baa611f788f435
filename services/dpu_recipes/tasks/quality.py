"""Quality control: what was measured is held against the limits among a recipe's process parameters."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from dpu_recipes.archive import MissingCalibration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import IntFlag

    from dpu_recipes.frames import Frame
    from dpu_recipes.task import Request

log = logging.getLogger(__name__)


def quality_flags(flags: type[IntFlag], parameters: Any, measured: Mapping[str, float]) -> int:
    """Return the bits of the limits that `measured` (by the name of the limit) goes beyond, each with a warning."""
    missed = flags(0)
    for name, value in measured.items():
        limit = getattr(parameters, name)
        # Not `abs(value) > limit`: what is not a number must not pass.
        if not abs(value) <= limit:
            missed |= flags[name]
            log.warning("Quality : %.4g is beyond %s %.4g; the product is flagged", value, name, limit)
    return int(missed)


def earlier(request: Request, makes: str, frame: Frame, *, overscan: int | None = None) -> Frame | None:
    """Return the product of a class that was valid for `frame` before this task, None where there was none."""
    log.info("Looking for an earlier %s to compare with", makes)
    try:
        return request.archive.calibration(makes, frame, overscan=overscan)
    except MissingCalibration:
        log.info("There is none")
        return None


def change(measured: float, before: Frame | None, name: str) -> dict[str, float]:
    """Return how far `measured` is from value `name` of an earlier product, by 'NAME_DIFFERENCE'; {} without one."""
    value = before.values.get(name) if before else None
    return {f"{name}_DIFFERENCE": measured - value} if isinstance(value, int | float) else {}
