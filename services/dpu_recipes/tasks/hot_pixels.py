"""HotPixels: the map of pixels that stand out of a master bias."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Any

from dpu_recipes.frames import BadImage, Frame, read_image, write_image
from dpu_recipes.pars import parameter
from dpu_recipes.task import Recipe, RecipeError, Request, TaskSpec
from dpu_recipes.tasks import selection
from dpu_recipes.tasks.product import product, save
from dpu_recipes.tasks.quality import change, earlier, quality_flags
from dpu_recipes.validity import make_call

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.typing import NDArray

log = logging.getLogger(__name__)


class HotPixelFlag(IntFlag):
    """Which limit a HotPixelMap missed."""

    MAXIMUM_COUNT = 1
    MAXIMUM_COUNT_DIFFERENCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class HotPixelParameters:
    """Process parameters of a HotPixelMap."""

    REJECTION_THRESHOLD: float = parameter(5.0, "pixels further from the background are bad", unit="sigma", minimum=1)
    MAXIMUM_ITERATIONS: int = parameter(5, "of the clipping", minimum=1)
    BACKGROUND_SIZE: int = parameter(64, "mesh of the background", unit="pixels", minimum=8)
    MAXIMUM_COUNT: int = parameter(100000, "limit of the number of bad pixels")
    MAXIMUM_COUNT_DIFFERENCE: int = parameter(50000, "limit of its change since the earlier HotPixelMap")


class HotPixels(Recipe):
    """The bad-pixel map of a chip, 1 good and 0 bad: what stands out of the smooth background of its bias."""

    name = "HotPixels"
    selects = "BiasFrame"
    makes = "HotPixelMap"
    parameters = HotPixelParameters
    flags = HotPixelFlag
    seconds = 1.0
    memory_mib = 512

    def plan(self, request: Request) -> list[TaskSpec]:
        """Return a task a chip and read-out mode: its newest good bias of the night, else its newest, to refuse it.

        One of the instrument's own overscan method goes before others: structure that another leaves hides pixels.
        """
        best: dict[tuple[str, str], Frame] = {}
        method = request.instrument.overscan_method

        def rank(frame: Frame) -> tuple[bool, bool, datetime]:
            return _is_good(frame), frame.overscan == method, frame.creation_date

        for bias in selection.selected(request, self.selects):
            key = bias.chip, bias.readout
            best[key] = max(best.get(key, bias), bias, key=rank)
        chips = [chip for chip, _ in best]
        return [
            TaskSpec(label=chip if chips.count(chip) == 1 else f"{chip} {mode}", inputs=(bias.id,))
            for (chip, mode), bias in sorted(best.items())
        ]

    def run(self, request: Request, spec: TaskSpec) -> None:
        """Map the hot pixels of one bias, and save the map."""
        from dpu_recipes.ccd.hot_pixels import hot_pixels

        (bias,) = selection.inputs(request, self, spec)
        log.info("Making HotPixelMap object")
        log.info("Using %s %s", bias.frame_class, bias.file_name)
        parameters = request.parameters
        found = hot_pixels(
            _image(request, bias),
            threshold=parameters.REJECTION_THRESHOLD,
            iterations=parameters.MAXIMUM_ITERATIONS,
            mesh=parameters.BACKGROUND_SIZE,
        )
        count = int(found.hot.sum())
        log.info("Threshold : %.1f x %.3f ADU", parameters.REJECTION_THRESHOLD, found.sigma)
        log.info("The number of hot pixels for ccd %s is : %d", bias.chip, count)
        changed = change(count, earlier(request, self.makes, bias), "COUNT")
        values = {"COUNT": count, "STDEV": found.sigma, **changed}
        limits = {f"MAXIMUM_{name}": value for name, value in {"COUNT": count, **changed}.items()}
        flags = quality_flags(self.flags, parameters, limits)
        record = product(self, request, [bias], values=values).evolve(quality_flags=flags)
        file = request.scratch / "hot_pixels.fits"
        write_image(file, (~found.hot).astype("uint8"), record)
        save(request, record, file)


def _is_good(bias: Frame) -> bool:
    return bias.is_valid and not bias.quality_flags


def _image(request: Request, bias: Frame) -> NDArray[Any]:
    """Return the pixels of a bias. Raises RecipeError where it may not be used."""
    import numpy as np

    if not _is_good(bias):
        raise RecipeError(
            f"no BiasFrame of chip {bias.chip} of night {bias.night} may be used: the newest, {bias.file_name}, "
            f"has is_valid={bias.is_valid:d} and quality_flags={bias.quality_flags}; "
            f"make one with {make_call('BiasFrame', bias)}"
        )
    try:
        image, _ = read_image(request.archive.open(bias))
    except BadImage as error:
        raise RecipeError(f"{bias.file_name}: {error}; make another bias") from error
    if not np.isfinite(image).all():
        raise RecipeError(f"{bias.file_name} has pixels that are not a number: make another bias")
    if not image.any():
        raise RecipeError(f"{bias.file_name} is zero everywhere: make another bias")
    return image.astype(np.float32, copy=False)
