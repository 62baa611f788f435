"""Quality control: what was measured is held against the limits among a recipe's process parameters."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from dpu_recipes.archive import MissingCalibration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import IntFlag

    from dpu_recipes.frames import Frame, Plain
    from dpu_recipes.task import Request

log = logging.getLogger(__name__)


def judged(product: Frame, flags: type[IntFlag], parameters: Any, measured: Mapping[str, float]) -> Frame:
    """Return a product that says what it was held to: the limits of `measured`, which has them by their names.

    The bits of those that it goes beyond are its quality flags, each with a warning.
    """
    missed = flags(0)
    limits: dict[str, Plain] = {}
    for name, value in measured.items():
        limit = getattr(parameters, name)
        limits[name] = {"measured": float(value), "limit": limit, "flag": int(flags[name])}
        # Not `abs(value) > limit`: what is not a number must not pass.
        if not abs(value) <= limit:
            missed |= flags[name]
            log.warning("Quality : %.4g is beyond %s %.4g; the product is flagged", value, name, limit)
    return product.evolve(quality_flags=int(missed), limits=limits)


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
