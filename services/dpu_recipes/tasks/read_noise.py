"""ReadNoise: the noise of the read-out, from the difference of two biases."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Any

from dpu_recipes.pars import parameter
from dpu_recipes.task import Recipe, RecipeError, Request, TaskSpec
from dpu_recipes.tasks import raw_image, selection
from dpu_recipes.tasks.product import product, save
from dpu_recipes.tasks.quality import change, earlier, judged
from dpu_recipes.tasks.quality_figure import of_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dpu_recipes.ccd.statistics import Clipped

log = logging.getLogger(__name__)


class ReadNoiseFlag(IntFlag):
    """Which limit a ReadNoise missed."""

    MAXIMUM_READNOISE = 1
    MAXIMUM_READNOISE_DIFFERENCE = 2
    MAXIMUM_BIAS_DIFFERENCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadNoiseParameters:
    """Process parameters of a ReadNoise."""

    REJECTION_THRESHOLD: float = parameter(5.0, "what lies further from the mean is left out", unit="sigma", minimum=1)
    MAXIMUM_ITERATIONS: int = parameter(5, "of the clipping", minimum=1)
    MAXIMUM_READNOISE: float = parameter(20.0, "limit of the read noise", unit="ADU")
    MAXIMUM_READNOISE_DIFFERENCE: float = parameter(1.0, "limit of its change since the earlier ReadNoise", unit="ADU")
    MAXIMUM_BIAS_DIFFERENCE: float = parameter(10.0, "limit of the mean difference of the two biases", unit="ADU")


class ReadNoise(Recipe):
    """The read noise of a chip, ADU: the clipped rms of the difference of two raw biases, over sqrt 2."""

    name = "ReadNoise"
    selects = "RawBiasFrame"
    makes = "ReadNoise"
    parameters = ReadNoiseParameters
    flags = ReadNoiseFlag
    seconds = 1.0
    memory_mib = 512

    def plan(self, request: Request) -> list[TaskSpec]:
        """Return a task a chip and read-out mode: its first two biases."""
        return selection.split(request, self, at_most=2)

    def run(self, request: Request, spec: TaskSpec) -> None:
        """Measure the read noise of one pair, without overscan correction, and save it."""
        pair = selection.inputs(request, self, spec)[:2]
        log.info("Making ReadNoise object")
        pixels, difference, median = _measured(request, raw_image.opened(request, pair))
        read_noise = difference.rms / math.sqrt(2.0)
        chip = pair[0].chip
        if not read_noise:
            raise RecipeError(f"{pair[0].file_name} and {pair[1].file_name} are the same: there is no noise to measure")
        log.info("The read noise (ADU) for ccd %s is : %.2f", chip, read_noise)
        log.info("Difference between biases is : %.3f (mean), %.2f (median)", difference.mean, median)
        changed = change(read_noise, earlier(request, self.makes, pair[0]), "READNOISE")
        record = product(
            self,
            request,
            pair,
            values={
                "READNOISE": read_noise,
                "BIAS_DIFFERENCE": difference.mean,
                "BIAS_DIFFERENCE_MEDIAN": median,
                "NREJECTED": difference.rejected,
                **changed,
            },
        )
        measured = {"READNOISE": read_noise, "BIAS_DIFFERENCE": difference.mean, **changed}
        limits = {f"MAXIMUM_{name}": value for name, value in measured.items()}
        record = judged(record, self.flags, request.parameters, limits)
        save(request, record, panels=of_image("difference of two biases", "ADU", pixels))


def _measured(request: Request, images: list[raw_image.RawImage]) -> tuple[NDArray[Any], Clipped, float]:
    """Return the difference of two images : (y, x), ADU, its statistics and its median."""
    from dpu_recipes.ccd import statistics

    threshold = request.parameters.REJECTION_THRESHOLD
    iterations = request.parameters.MAXIMUM_ITERATIONS
    log.info("Computing difference...")
    # Both are stored with the same zero, so it falls out.
    difference = statistics.difference(images[0].data, images[1].data)
    log.info("Estimating rms iteratively...")
    log.info("Maximum number of iterations : %d", iterations)
    log.info("Rejection threshold : %.1f (sigma)", threshold)
    measured = statistics.clipped(difference, threshold=threshold, iterations=iterations)
    return difference, measured, statistics.median(difference, measured)
