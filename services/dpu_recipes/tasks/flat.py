"""Flats: what all recipes that average lit frames have in common, which is all but where the light is from."""

from __future__ import annotations

import logging
import math
from abc import ABC
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, ClassVar

from dpu_recipes.frames import write_image
from dpu_recipes.pars import parameter
from dpu_recipes.task import Recipe, RecipeError, Request, TaskSpec
from dpu_recipes.tasks import product_image, raw_image, selection
from dpu_recipes.tasks.noise import gain, read_noise
from dpu_recipes.tasks.product import product, save
from dpu_recipes.tasks.quality import judged
from dpu_recipes.tasks.quality_figure import of_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from dpu_recipes.ccd.flat import FlatLayer
    from dpu_recipes.ccd.noise import NoiseModel
    from dpu_recipes.ccd.overscan import Method
    from dpu_recipes.frames import Frame

log = logging.getLogger(__name__)


class FlatFlag(IntFlag):
    """Which limit a flat missed."""

    MAXIMUM_REJECTED = 1
    MAXIMUM_ROW_SCATTER = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatParameters:
    """Process parameters of a DomeFlatFrame and of a TwilightFlatFrame."""

    SIGMA_CLIP: float = parameter(5.0, "limit of rejection about a pixel's median", unit="expected noise", minimum=1)
    MIN_FLAT_MEAN: float = parameter(20000.0, "a frame of less light is left out", unit="ADU", minimum=1)
    MAX_FLAT_MEAN: float = parameter(30000.0, "a frame of more light is left out", unit="ADU", minimum=1)
    MAXIMUM_REJECTED: float = parameter(
        0.01, "limit of the part of all values that is rejected, stars aside", maximum=1
    )
    MAXIMUM_ROW_SCATTER: float = parameter(
        1.5, "limit of the scatter of a frame's rows about the flat's", unit="expected noise"
    )


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the raw frames are corrected with."""

    #: The first of them: what is valid for it is taken for all.
    frame: Frame
    bias: NDArray[np.float32]
    method: Method
    noise: NoiseModel
    #: The products that it comes from.
    frames: list[Frame]


@dataclass(frozen=True, slots=True)
class Combined:
    """What a recipe makes of some frames."""

    #: (y, x), float32.
    image: NDArray[np.float32]
    #: What is measured of it.
    values: dict[str, float]
    #: Products that it was made with, beside those of the calibration.
    frames: tuple[Frame, ...] = ()


class FlatRecipe(Recipe, ABC):
    """A flat field of a chip, its mean 1: raw flats, debiased, trimmed, each scaled, combined, outliers rejected."""

    parameters: ClassVar[type] = FlatParameters
    flags: ClassVar[type[IntFlag]] = FlatFlag
    seconds = 8.0
    memory_mib = 1024
    #: Whether stars are in its frames.
    starry: ClassVar[bool]

    def plan(self, request: Request) -> list[TaskSpec]:
        """Return a task a chip, filter and read-out mode: all its flats."""
        return selection.split(request, self)

    def run(self, request: Request, spec: TaskSpec) -> None:
        """Make and save the flat of one chip and filter."""
        frames = selection.inputs(request, self, spec)
        log.info("Making %s object", self.makes)
        images, refused = raw_image.sorted_out(request, frames)
        self._check_number(request, frames, refused)
        known = _calibration(request, images[0])
        layers, unlit = _lit(request, images, known)
        refused |= unlit
        self._check_number(request, frames, refused)
        for name, reason in refused.items():
            log.warning("%s of chip %s leaves out %s: %s", self.name, frames[0].chip, name, reason)
        used = [frame for frame in frames if frame.file_name not in refused]
        made = self.combined(request, layers, known)
        values = _levels(layers, known.noise) | made.values | {"NREFUSED": len(refused)}
        for name, value in values.items():
            log.info("%s : %.6g", name, value)
        limited = {f"MAXIMUM_{name}": value for name, value in values.items() if f"MAXIMUM_{name}" in self._limits()}
        made_from = [*used, *known.frames, *made.frames]
        record = product(self, request, made_from, values=values, overscan=known.method)
        record = judged(record, self.flags, request.parameters, limited)
        file = request.scratch / "flat.fits"
        write_image(file, made.image, record)
        save(request, record, file, of_image(self.makes, "relative", made.image))

    def combined(self, request: Request, layers: list[FlatLayer], known: Calibration) -> Combined:
        """Return the mean of some frames; of starry ones, where no star is."""
        from dpu_recipes.ccd.flat import CLIP, ITERATIONS, combined, row_scatters, starless
        from dpu_recipes.ccd.statistics import clipped

        threshold, noise = request.parameters.SIGMA_CLIP, known.noise
        log.info("Averaging %d frames, rejection at %.1f x the expected noise", len(layers), threshold)
        if self.starry:
            flat, marked = starless(layers, noise=noise, threshold=threshold)
            log_stars(marked)
        else:
            flat = combined(layers, noise=noise, threshold=threshold)
        rows = row_scatters(flat, [layer.light for layer in layers], noise)
        stdev = clipped(flat.mean, threshold=CLIP, iterations=ITERATIONS).rms
        return Combined(flat.mean, {"REJECTED": flat.rejected, "ROW_SCATTER": max(rows), "STDEV": stdev})

    def _limits(self) -> set[str]:
        """Return the names of the limits that its flags tell of: not every flat has them all."""
        return {str(flag.name) for flag in self.flags}

    def _check_number(self, request: Request, frames: list[Frame], refused: dict[str, str]) -> None:
        """Raise RecipeError, with each frame that was refused and why, where too few are left."""
        minimum = request.instrument.minimum(self.makes)
        left = len(frames) - len(refused)
        if left < minimum:
            raise RecipeError(
                f"{self.name} needs at least {minimum} good frames of class {self.selects} of chip {frames[0].chip}, "
                f"and of {len(frames)} it has {left}; no good: {selection.listed(refused)}"
            )


def _calibration(request: Request, image: raw_image.RawImage) -> Calibration:
    """Return what flats are corrected with. Raises MissingCalibration."""
    from dpu_recipes.ccd.noise import NoiseModel
    from dpu_recipes.ccd.overscan import Method

    method = Method(request.options["overscan"])
    bias = request.archive.calibration("BiasFrame", image.frame, overscan=method)
    noise = request.archive.calibration("ReadNoise", image.frame)
    electrons, measured = gain(request, image.frame)
    return Calibration(
        frame=image.frame,
        bias=product_image.image(request, bias, shape=image.data.shape),
        method=method,
        noise=NoiseModel(gain=electrons, read_noise=read_noise(noise)),
        frames=[bias, noise, *([measured] if measured else [])],
    )


def _lit(
    request: Request, images: list[raw_image.RawImage], known: Calibration
) -> tuple[list[FlatLayer], dict[str, str]]:
    """Return the layers of frames whose light is within the limits, and by file name why the others' is not."""
    from dpu_recipes.ccd.flat import FlatLayer, level

    low, high = request.parameters.MIN_FLAT_MEAN, request.parameters.MAX_FLAT_MEAN
    log.info("Overscan correction method : %d", known.method)
    layers, refused = [], {}
    for image in images:
        layer = image.layer(image.correction(known.method))
        light = level(layer, known.bias)
        log.info("The level of %s is : %.0f ADU", image.frame.file_name, light)
        if light < low:
            refused[image.frame.file_name] = f"its level of {round(light)} ADU is below MIN_FLAT_MEAN {low:g}"
        elif light > high:
            refused[image.frame.file_name] = f"its level of {round(light)} ADU is above MAX_FLAT_MEAN {high:g}"
        else:
            layers.append(FlatLayer(layer=layer, bias=known.bias, light=light))
    return layers, refused


def log_stars(layers: Sequence[FlatLayer]) -> None:
    """Say how much of each frame is left out because of stars."""
    for layer in layers:
        log.info("Stars cover %.2f %% of the frame of %.0f ADU", 100 * float(layer.stars.mean()), layer.light)


def _levels(layers: list[FlatLayer], noise: NoiseModel) -> dict[str, float]:
    """Return what is known of the light of some frames, and the noise that it leaves in their mean."""
    lights = [layer.light for layer in layers]
    return {
        "NCOMBINE": len(layers),
        "LEVEL_LOW": min(lights),
        "LEVEL_HIGH": max(lights),
        "NOISE": 1 / math.sqrt(sum(noise.relative(light) ** -2 for light in lights)),
        "READNOISE": noise.read_noise,
        "GAIN": noise.gain,
    }
