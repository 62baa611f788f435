"""ColdPixels: the map of pixels whose response to light is far off that of their neighbours."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import IntFlag

from dpu_recipes.frames import write_image
from dpu_recipes.pars import parameter
from dpu_recipes.task import Recipe, RecipeError, Request, TaskSpec
from dpu_recipes.tasks import selection
from dpu_recipes.tasks.product import product, save
from dpu_recipes.tasks.product_image import image
from dpu_recipes.tasks.quality import change, earlier, judged
from dpu_recipes.tasks.quality_figure import of_map

log = logging.getLogger(__name__)


class ColdPixelFlag(IntFlag):
    """Which limit a ColdPixelMap missed."""

    MAXIMUM_COUNT = 1
    MAXIMUM_COUNT_DIFFERENCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdPixelParameters:
    """Process parameters of a ColdPixelMap."""

    THRESHOLD_LOW: float = parameter(0.94, "pixels below are bad", unit="background", maximum=1)
    THRESHOLD_HIGH: float = parameter(1.06, "pixels above are bad", unit="background", minimum=1)
    BACKGROUND_SIZE: int = parameter(64, "mesh of the background", unit="pixels", minimum=8)
    MAXIMUM_COUNT: int = parameter(100000, "limit of the number of bad pixels")
    MAXIMUM_COUNT_DIFFERENCE: int = parameter(50000, "limit of its change since the earlier ColdPixelMap")


class ColdPixels(Recipe):
    """The bad-pixel map of a chip, 1 good and 0 bad: what stands out of the smooth background of its dome flat."""

    name = "ColdPixels"
    selects = "DomeFlatFrame"
    # Some telescopes have no lamp.
    instead = ("TwilightFlatFrame",)
    makes = "ColdPixelMap"
    parameters = ColdPixelParameters
    flags = ColdPixelFlag
    seconds = 1.0
    memory_mib = 512

    def plan(self, request: Request) -> list[TaskSpec]:
        """Return a task a chip and read-out mode: its newest good dome flat of the night, else its twilight flat."""
        return selection.newest(request, self)

    def run(self, request: Request, spec: TaskSpec) -> None:
        """Map the cold pixels of one dome flat, and save the map."""
        from dpu_recipes.ccd.cold_pixels import cold_pixels

        (flat,) = selection.inputs(request, self, spec)
        log.info("Making ColdPixelMap object")
        parameters = request.parameters
        low, high = parameters.THRESHOLD_LOW, parameters.THRESHOLD_HIGH
        if low >= high:
            raise RecipeError(f"THRESHOLD_LOW {low:g} is not below THRESHOLD_HIGH {high:g}: no pixel would be good")
        cold = cold_pixels(image(request, flat), low=low, high=high, mesh=parameters.BACKGROUND_SIZE)
        count = int(cold.sum())
        log.info("Thresholds : %.3f and %.3f of the background", low, high)
        log.info("The number of cold pixels for ccd %s is : %d", flat.chip, count)
        changed = change(count, earlier(request, self.makes, flat), "COUNT")
        limits = {f"MAXIMUM_{name}": value for name, value in {"COUNT": count, **changed}.items()}
        record = product(self, request, [flat], values={"COUNT": count, **changed})
        record = judged(record, self.flags, parameters, limits)
        file = request.scratch / "cold_pixels.fits"
        write_image(file, (~cold).astype("uint8"), record)
        save(request, record, file, of_map("cold pixels", cold))
