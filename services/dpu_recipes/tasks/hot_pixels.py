"""HotPixels: the map of pixels that stand out of a master bias."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import IntFlag

from dpu_recipes.frames import write_image
from dpu_recipes.pars import parameter
from dpu_recipes.task import Recipe, Request, TaskSpec
from dpu_recipes.tasks import selection
from dpu_recipes.tasks.product import product, save
from dpu_recipes.tasks.product_image import image
from dpu_recipes.tasks.quality import change, earlier, judged
from dpu_recipes.tasks.quality_figure import of_map

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
        """Return a task a chip and read-out mode: its newest good bias of the night."""
        return selection.newest(request, self)

    def run(self, request: Request, spec: TaskSpec) -> None:
        """Map the hot pixels of one bias, and save the map."""
        from dpu_recipes.ccd.hot_pixels import hot_pixels

        (bias,) = selection.inputs(request, self, spec)
        log.info("Making HotPixelMap object")
        parameters = request.parameters
        found = hot_pixels(
            image(request, bias),
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
        record = judged(product(self, request, [bias], values=values), self.flags, parameters, limits)
        file = request.scratch / "hot_pixels.fits"
        write_image(file, (~found.hot).astype("uint8"), record)
        save(request, record, file, of_map("hot pixels", found.hot))
