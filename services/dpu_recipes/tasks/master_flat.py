"""MasterFlat: the flat field by which science frames are divided, from dome and twilight flat."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING

from dpu_recipes.frames import write_image
from dpu_recipes.pars import parameter
from dpu_recipes.task import Recipe, RecipeError, Request, TaskSpec
from dpu_recipes.tasks import selection
from dpu_recipes.tasks.product import product, save
from dpu_recipes.tasks.product_image import image
from dpu_recipes.tasks.quality import change, earlier, quality_flags

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dpu_recipes.frames import Frame

log = logging.getLogger(__name__)


class Combine(IntEnum):
    """Of which flats a master flat is made: the values of option `combine`."""

    DOME_AND_TWILIGHT = 1
    DOME = 2
    TWILIGHT = 3


class MasterFlatFlag(IntFlag):
    """Which limit a MasterFlatFrame missed."""

    MAXIMUM_BAD = 1
    MAXIMUM_STDEV = 2
    MAXIMUM_STDEV_DIFFERENCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterFlatParameters:
    """Process parameters of a MasterFlatFrame."""

    LARGE_SCALE: int = parameter(64, "mesh of what is taken from the twilight flat", unit="pixels", minimum=8)
    MAXIMUM_BAD: float = parameter(0.05, "limit of the part of the pixels that is bad")
    MAXIMUM_STDEV: float = parameter(0.2, "limit of the standard deviation")
    MAXIMUM_STDEV_DIFFERENCE: float = parameter(0.05, "limit of its change since the earlier MasterFlatFrame")


class MasterFlat(Recipe):
    """The flat field of a chip, its mean 1: small scales of the dome flat, large ones of the twilight flat."""

    name = "MasterFlat"
    selects = "DomeFlatFrame"
    makes = "MasterFlatFrame"
    parameters = MasterFlatParameters
    flags = MasterFlatFlag
    seconds = 3.0
    memory_mib = 1024

    def plan(self, request: Request) -> list[TaskSpec]:
        """Return a task a chip, filter and read-out mode: its newest good flat of the night."""
        twilight = request.options["combine"] == Combine.TWILIGHT
        return selection.newest(request, self, "TwilightFlatFrame" if twilight else self.selects)

    def run(self, request: Request, spec: TaskSpec) -> None:
        """Make and save the master flat of one chip and filter."""
        from dpu_recipes.ccd.flat import CLIP, ITERATIONS
        from dpu_recipes.ccd.large_scale import large_scale
        from dpu_recipes.ccd.statistics import clipped

        (first,) = selection.inputs(request, self, spec)
        combine = Combine(request.options["combine"])
        log.info("Making MasterFlatFrame object")
        log.info("Combining by method %d : %s", combine, combine.name.lower().replace("_", " "))
        flat = image(request, first)
        maps = [request.archive.calibration(name, first) for name in ("HotPixelMap", "ColdPixelMap")]
        good = _good(request, maps, flat)
        made_from = [first, *maps]
        mesh = request.parameters.LARGE_SCALE
        if combine is Combine.DOME_AND_TWILIGHT:
            # Of the dome flat's own overscan method: one light for both.
            twilight = request.archive.calibration("TwilightFlatFrame", first, overscan=first.overscan)
            made_from.append(twilight)
            flat *= _scales(request, twilight, flat, good)
        flat[~good] = large_scale(flat, good=good, mesh=mesh)[~good]
        flat /= flat.mean(dtype="float64")
        stdev = clipped(flat, threshold=CLIP, iterations=ITERATIONS).rms
        values = {"COMBINE": int(combine), "BAD": 1 - float(good.mean()), "STDEV": stdev}
        values |= change(stdev, earlier(request, self.makes, first), "STDEV")
        for name, value in values.items():
            log.info("%s : %.6g", name, value)
        limits = {f"MAXIMUM_{name}": value for name, value in values.items() if name != "COMBINE"}
        flags = quality_flags(self.flags, request.parameters, limits)
        record = product(self, request, made_from, values=values, overscan=first.overscan)
        record = record.evolve(quality_flags=flags)
        file = request.scratch / "master_flat.fits"
        write_image(file, flat, record)
        save(request, record, file)


def _good(request: Request, maps: list[Frame], flat: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where every bad-pixel map says 1 and the flat has a response. Raises RecipeError for nowhere."""
    good = flat > 0
    for each in maps:
        good &= image(request, each, shape=flat.shape) == 1
    if not good.any():
        raise RecipeError(f"no pixel is good in {' and '.join(each.file_name for each in maps)}: make others")
    return good


def _scales(
    request: Request, twilight: Frame, dome: NDArray[np.float32], good: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return what turns the large scales of the dome flat into those of the twilight flat.

    That of the ratio, not the ratio of two: what both have at small scales falls out before it is smoothed.
    """
    import numpy as np

    from dpu_recipes.ccd.large_scale import large_scale

    ratio = np.divide(image(request, twilight, shape=dome.shape), dome, out=np.ones_like(dome), where=good)
    return large_scale(ratio, good=good, mesh=request.parameters.LARGE_SCALE)
