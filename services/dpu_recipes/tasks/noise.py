"""The noise of a chip, as products and headers tell of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dpu_recipes.archive import MissingCalibration
from dpu_recipes.task import RecipeError, Request

if TYPE_CHECKING:
    from dpu_recipes.frames import Frame

log = logging.getLogger(__name__)


def read_noise(frame: Frame) -> float:
    """Return the read noise, ADU, of a ReadNoise product. Raises RecipeError where it is none."""
    return _positive(frame, "READNOISE")


def gain(request: Request, frame: Frame) -> tuple[float, Frame | None]:
    """Return the gain of a raw frame, e-/ADU, and the GainLinearity product that it is from.

    None where there is no such product: then it is what the frame's header says, or else the instrument's TOML.
    """
    try:
        measured = request.archive.calibration("GainLinearity", frame)
    except MissingCalibration:
        measured = None
    found = _positive(measured or frame, "GAIN")
    log.info("Gain : %.3f e-/ADU, %s", found, f"by {measured.file_name}" if measured else "not measured")
    return found, measured


def _positive(frame: Frame, name: str) -> float:
    value = frame.values.get(name)
    if not isinstance(value, int | float) or not value > 0:
        raise RecipeError(f"the {frame.frame_class} {frame.file_name or frame.id} has {name}={value!r}: make another")
    return float(value)
