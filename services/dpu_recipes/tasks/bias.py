"""Bias: the master bias, from the biases of a night."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING

from dpu_recipes.frames import write_image
from dpu_recipes.pars import parameter
from dpu_recipes.task import Recipe, Request, TaskSpec
from dpu_recipes.tasks import raw_image, selection
from dpu_recipes.tasks.noise import read_noise
from dpu_recipes.tasks.product import product, save
from dpu_recipes.tasks.quality import change, earlier, judged
from dpu_recipes.tasks.quality_figure import of_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dpu_recipes.ccd.overscan import Correction, Method
    from dpu_recipes.ccd.stack import Stack

log = logging.getLogger(__name__)

#: The statistics of a bias leave out what lies beyond so many sigma, in at most so many iterations.
CLIP, ITERATIONS = 5.0, 5
#: The sub-windows of a bias: so many by so many.
GRID = 8


class BiasFlag(IntFlag):
    """Which limit a BiasFrame missed."""

    MAXIMUM_ABS_MEAN = 1
    MAXIMUM_STDEV = 2
    MAXIMUM_STDEV_DIFFERENCE = 4
    MAXIMUM_SUBWIN_FLATNESS = 8
    MAXIMUM_SUBWIN_STDEV = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class BiasParameters:
    """Process parameters of a BiasFrame."""

    SIGMA_CLIP: float = parameter(3.0, "limit of rejection about a pixel's median", unit="read noise", minimum=1)
    MAXIMUM_ABS_MEAN: float = parameter(10.0, "limit of the mean; not held against overscan method 0", unit="ADU")
    MAXIMUM_STDEV: float = parameter(10.0, "limit of the standard deviation", unit="ADU")
    MAXIMUM_STDEV_DIFFERENCE: float = parameter(10.0, "limit of its change since the earlier BiasFrame", unit="ADU")
    MAXIMUM_SUBWIN_FLATNESS: float = parameter(100000.0, "limit of a window's mean less that of all", unit="ADU")
    MAXIMUM_SUBWIN_STDEV: float = parameter(100000.0, "limit of the standard deviation in a window", unit="ADU")


class Bias(Recipe):
    """The master bias of a chip, ADU: the mean of raw biases, overscan-corrected, trimmed, outliers rejected."""

    name = "Bias"
    selects = "RawBiasFrame"
    makes = "BiasFrame"
    parameters = BiasParameters
    flags = BiasFlag
    seconds = 2.0
    memory_mib = 512

    def plan(self, request: Request) -> list[TaskSpec]:
        """Return a task a chip and read-out mode: all its biases."""
        return selection.split(request, self)

    def run(self, request: Request, spec: TaskSpec) -> None:
        """Make and save the bias of one chip."""
        from dpu_recipes.ccd.overscan import Method

        biases = selection.inputs(request, self, spec)
        log.info("Making BiasFrame object")
        noise_frame = request.archive.calibration("ReadNoise", biases[0])
        method = Method(request.options["overscan"])
        stack, variance = _stacked(request, raw_image.opened(request, biases), method, read_noise(noise_frame))
        before = earlier(request, self.makes, biases[0], overscan=method)
        values = _values(stack.mean) | {
            "NCOMBINE": len(biases),
            "NREJECTED": len(biases) * stack.count.size - int(stack.count.sum(dtype="int64")),
            "READNOISE": read_noise(noise_frame),
            "OVERSCAN_VARIANCE": variance,
        }
        values |= change(values["STDEV"], before, "STDEV")
        for name, value in values.items():
            log.info("%s : %.6g", name, value)
        record = product(self, request, [*biases, noise_frame], values=values, overscan=method)
        record = judged(record, self.flags, request.parameters, _limited(values, method))
        file = request.scratch / "bias.fits"
        write_image(file, stack.mean, record, {"BUNIT": "ADU"})
        save(request, record, file, of_image("bias", "ADU", stack.mean))


def _stacked(request: Request, images: list[raw_image.RawImage], method: Method, single: float) -> tuple[Stack, float]:
    """Return the mean of some images, corrected by `method`, and the variance of the correction, ADU^2.

    `single` is the read noise of one frame, ADU: with the correction's it sets what is rejected.
    """
    from dpu_recipes.ccd.stack import clipped_mean

    corrections = _corrections(images, method)
    variance = sum(correction.variance for correction in corrections) / len(corrections)
    layers = [image.layer(correction) for image, correction in zip(images, corrections, strict=True)]
    threshold = request.parameters.SIGMA_CLIP
    noise = math.sqrt(single**2 + variance)
    log.info("Averaging %d frames, rejection at %.1f x %.3f ADU", len(layers), threshold, noise)
    return clipped_mean(layers, noise=noise, threshold=threshold), variance


def _corrections(images: list[raw_image.RawImage], method: Method) -> list[Correction]:
    """Return what is taken off each image. Raises RecipeError where a frame has no strip for `method`."""
    log.info("Overscan correction method : %d", method)
    if not method.strip:
        return _level_matched(images)
    return [image.correction(method) for image in images]


def _level_matched(images: list[raw_image.RawImage]) -> list[Correction]:
    """Return what brings each image to the mean level of all: without overscan their levels drift apart.

    The mean level stays in the product, as method 0 means it to.
    """
    import numpy as np

    from dpu_recipes.ccd.overscan import Correction
    from dpu_recipes.ccd.statistics import clipped

    levels = [clipped(image.data, threshold=CLIP, iterations=ITERATIONS).mean + image.zero for image in images]
    mean = sum(levels) / len(levels)
    return [Correction(np.full((1, 1), level - mean, np.float32), 0.0) for level in levels]


def _values(bias: NDArray[np.float32]) -> dict[str, float]:
    """Return what is measured of a bias, ADU."""
    from dpu_recipes.ccd.statistics import clipped, median, windows

    whole = clipped(bias, threshold=CLIP, iterations=ITERATIONS)
    parts = windows(bias, grid=GRID, threshold=CLIP, iterations=ITERATIONS)
    return {
        "MEAN": whole.mean,
        "MEDIAN": median(bias, whole),
        "STDEV": whole.rms,
        "SUBWIN_FLATNESS": parts.flatness,
        "SUBWIN_STDEV": parts.stdev,
    }


def _limited(values: dict[str, float], method: Method) -> dict[str, float]:
    """Return what was measured by the name of its limit. Method 0 leaves the level in, so its mean has no limit."""
    names = ("STDEV", "STDEV_DIFFERENCE", "SUBWIN_FLATNESS", "SUBWIN_STDEV")
    limited = {f"MAXIMUM_{name}": values[name] for name in names if name in values}
    return limited | ({"MAXIMUM_ABS_MEAN": values["MEAN"]} if method else {})
