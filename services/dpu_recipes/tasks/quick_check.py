"""QuickCheck: whether a dome flat is as it should be, in a minute and before others are taken."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING

from dpu_recipes.archive import Selection
from dpu_recipes.frames import write_image
from dpu_recipes.pars import parameter
from dpu_recipes.task import Recipe, RecipeError, Request, TaskSpec
from dpu_recipes.tasks import product_image, raw_image, selection
from dpu_recipes.tasks.noise import gain, read_noise
from dpu_recipes.tasks.product import product, save
from dpu_recipes.tasks.quality import judged
from dpu_recipes.tasks.quality_figure import of_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dpu_recipes.ccd.noise import NoiseModel
    from dpu_recipes.ccd.overscan import Method
    from dpu_recipes.frames import Frame

log = logging.getLogger(__name__)

#: The statistics of a flat leave out what lies beyond so many sigma, in at most so many iterations.
CLIP, ITERATIONS = 5.0, 5
#: A level is compared with the mean of so many earlier ones.
EARLIER = 5
#: In units of the read noise: a frame of less light has none.
DARK = 10.0


class QuickCheckFlag(IntFlag):
    """Which limit a QuickCheckFrame missed."""

    MAXIMUM_LEVEL_DIFFERENCE = 1
    MAXIMUM_SCATTER = 2
    MAXIMUM_SATURATED = 4
    MAXIMUM_ROW_SCATTER = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickCheckParameters:
    """Process parameters of a QuickCheckFrame."""

    MAXIMUM_LEVEL_DIFFERENCE: float = parameter(0.1, "limit of the change of light a second, relative")
    MAXIMUM_SCATTER: float = parameter(
        1.1, "limit of the scatter of two flats' ratio in a window; held where the gain is measured", unit="shot noise"
    )
    MAXIMUM_SATURATED: float = parameter(0.001, "limit of the part of the pixels that is saturated", maximum=1)
    MAXIMUM_ROW_SCATTER: float = parameter(
        1.5, "limit of the scatter of their ratio from row to row", unit="shot noise"
    )


class QuickCheck(Recipe):
    """A dome flat of a chip, ADU, debiased and trimmed, held against the flat after it and against earlier ones."""

    name = "QuickCheck"
    selects = "RawDomeFlatFrame"
    makes = "QuickCheckFrame"
    parameters = QuickCheckParameters
    flags = QuickCheckFlag
    seconds = 2.0
    memory_mib = 512

    def plan(self, request: Request) -> list[TaskSpec]:
        """Return a task a chip, filter and read-out mode: its first flat, and its second to compare with."""
        return selection.split(request, self, at_most=2)

    def run(self, request: Request, spec: TaskSpec) -> None:
        """Check one flat, and save it."""
        from dpu_recipes.ccd.overscan import Method

        flats = selection.inputs(request, self, spec)[:2]
        log.info("Making QuickCheckFrame object")
        images = raw_image.opened(request, flats)
        method = Method(request.options["overscan"])
        bias = request.archive.calibration("BiasFrame", flats[0], overscan=method)
        noise, noise_frames, measured = _noise(request, flats[0])
        pixels = [_light(request, image, bias, method) for image in images]
        _check_lit(flats, pixels, noise)
        values = _statistics(images[0], pixels[0]) | _compared(pixels, noise)
        values |= _change(values["RATE"], _earlier(request, flats[0]))
        for name, value in values.items():
            log.info("%s : %.6g", name, value)
        names = ["LEVEL_DIFFERENCE", "SATURATED", "ROW_SCATTER", *(["SCATTER"] if measured else [])]
        limited = {f"MAXIMUM_{name}": values[name] for name in names if name in values}
        record = product(self, request, [*flats, bias, *noise_frames], values=values, overscan=method)
        record = judged(record, self.flags, request.parameters, limited)
        file = request.scratch / "quick_check.fits"
        write_image(file, pixels[0], record, {"BUNIT": "ADU"})
        save(request, record, file, of_image("light", "ADU", pixels[0]))


def _noise(request: Request, flat: Frame) -> tuple[NoiseModel, list[Frame], bool]:
    """Return the noise of a flat, the products that it comes from, and whether the gain is one of them."""
    from dpu_recipes.ccd.noise import NoiseModel

    noise = request.archive.calibration("ReadNoise", flat)
    electrons, measured = gain(request, flat)
    model = NoiseModel(gain=electrons, read_noise=read_noise(noise))
    return model, [noise, *([measured] if measured else [])], measured is not None


def _light(request: Request, image: raw_image.RawImage, bias: Frame, method: Method) -> NDArray[np.float32]:
    """Return the light of a raw flat, ADU: overscan-corrected, trimmed, debiased."""
    light = image.layer(image.correction(method)).rows(0, image.data.shape[0])
    light -= product_image.image(request, bias, shape=image.data.shape)
    return light


def _check_lit(flats: list[Frame], pixels: list[NDArray[np.float32]], noise: NoiseModel) -> None:
    """Raise RecipeError where a flat has no light."""
    import numpy as np

    for flat, light in zip(flats, pixels, strict=True):
        level = float(np.median(light))
        if level < DARK * noise.read_noise:
            raise RecipeError(
                f"{flat.file_name} has no light: its level is {round(level)} ADU; "
                "was the shutter closed, or the lamp off?"
            )


def _statistics(image: raw_image.RawImage, light: NDArray[np.float32]) -> dict[str, float]:
    """Return what is measured of one flat: levels and scatter in ADU, the rate in ADU a second."""
    from dpu_recipes.ccd.statistics import clipped, median

    whole = clipped(light, threshold=CLIP, iterations=ITERATIONS)
    return {
        "MEAN": whole.mean,
        "MEDIAN": median(light, whole),
        "STDEV": whole.rms,
        "RATE": whole.mean / image.frame.exptime if image.frame.exptime else whole.mean,
        "SATURATED": float((image.data >= image.saturation - image.zero).mean()),
    }


def _compared(pixels: list[NDArray[np.float32]], noise: NoiseModel) -> dict[str, float]:
    """Return how a flat differs from the next; {} where there is none."""
    from dpu_recipes.ccd.steadiness import likeness

    if len(pixels) == 1:
        log.info("There is no second flat to compare with")
        return {}
    first, second = pixels
    found = likeness(first, second, noise)
    return {"SCATTER": found.scatter, "ROW_SCATTER": found.rows}


def _earlier(request: Request, flat: Frame) -> list[float]:
    """Return the light a second, ADU, of the last checked flats before of the same chip, filter and read-out mode."""
    wanted = Selection(instrument=flat.instrument, chips=(flat.chip,), filter=flat.filter)
    checked = [
        frame
        for frame in request.archive.select(QuickCheck.makes, wanted)
        if selection.is_good(frame) and frame.readout == flat.readout and frame.date_obs < flat.date_obs
    ]
    rates = [frame.values.get("RATE") for frame in checked[-EARLIER:]]
    return [float(rate) for rate in rates if isinstance(rate, int | float)]


def _change(rate: float, before: list[float]) -> dict[str, float]:
    """Return by how much a rate differs from the mean of earlier ones, relative; {} where there are none."""
    log.info("Comparing the level with %d earlier ones", len(before))
    mean = sum(before) / len(before) if before else 0.0
    return {"LEVEL_DIFFERENCE": rate / mean - 1} if mean > 0 else {}
