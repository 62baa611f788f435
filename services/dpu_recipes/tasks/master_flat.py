"""MasterFlat: the flat field by which science frames are divided, from dome and twilight flat."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from types import MappingProxyType
from typing import TYPE_CHECKING

from dpu_recipes.frames import write_image
from dpu_recipes.pars import parameter
from dpu_recipes.task import Recipe, Request, TaskSpec
from dpu_recipes.tasks import selection
from dpu_recipes.tasks.good_pixels import good_pixels
from dpu_recipes.tasks.product import product, save
from dpu_recipes.tasks.product_image import image
from dpu_recipes.tasks.quality import change, earlier, judged
from dpu_recipes.tasks.quality_figure import of_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dpu_recipes.frames import Frame

log = logging.getLogger(__name__)

_SKY = "NightSkyFlatFrame"


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

    LARGE_SCALE: int = parameter(64, "mesh of what is taken from sky flats", unit="pixels", minimum=8)
    NIGHT_SKY: int = parameter(
        0, "1: with the large scales of the night-sky flat, except in filters that fringe", maximum=1
    )
    MAXIMUM_BAD: float = parameter(0.05, "limit of the part of the pixels that is bad", maximum=1)
    MAXIMUM_STDEV: float = parameter(0.2, "limit of the standard deviation")
    MAXIMUM_STDEV_DIFFERENCE: float = parameter(0.05, "limit of its change since the earlier MasterFlatFrame")


class MasterFlat(Recipe):
    """The flat field of a chip, its mean 1: small scales of the dome flat, large ones of the twilight flat."""

    name = "MasterFlat"
    selects = "DomeFlatFrame"
    selects_with = MappingProxyType({f"combine={Combine.TWILIGHT:d}": "TwilightFlatFrame"})
    makes = "MasterFlatFrame"
    parameters = MasterFlatParameters
    flags = MasterFlatFlag
    seconds = 3.0
    memory_mib = 1024

    def plan(self, request: Request) -> list[TaskSpec]:
        """Return a task a chip, filter and read-out mode: its newest good flat of the night."""
        return selection.newest(request, self)

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
        good, maps = good_pixels(request, first, flat)
        skies = _skies(request, first, combine)
        for sky in skies:
            flat *= _scales(request, sky, flat, good)
        mesh = request.parameters.LARGE_SCALE
        flat[~good] = large_scale(flat, good=good, mesh=mesh)[~good]
        flat /= flat.mean(dtype="float64")
        stdev = clipped(flat, threshold=CLIP, iterations=ITERATIONS).rms
        values = {
            "COMBINE": int(combine),
            "NIGHT_SKY": int(_SKY in [sky.frame_class for sky in skies]),
            "BAD": 1 - float(good.mean()),
            "STDEV": stdev,
        }
        values |= change(stdev, earlier(request, self.makes, first), "STDEV")
        for name, value in values.items():
            log.info("%s : %.6g", name, value)
        limits = {f"MAXIMUM_{name}": values[name] for name in ("BAD", "STDEV", "STDEV_DIFFERENCE") if name in values}
        record = product(self, request, [first, *maps, *skies], values=values, overscan=first.overscan)
        record = judged(record, self.flags, request.parameters, limits)
        file = request.scratch / "master_flat.fits"
        write_image(file, flat, record)
        save(request, record, file, of_image("response", "relative", flat))


def _skies(request: Request, flat: Frame, combine: Combine) -> list[Frame]:
    """Return the flats whose large scales are put into `flat`, one after another: of its own overscan method."""
    wanted = ["TwilightFlatFrame"] if combine is Combine.DOME_AND_TWILIGHT else []
    if request.parameters.NIGHT_SKY:
        if request.instrument.fringes(flat.filter):
            log.warning("The night-sky flat is not used : filter %s fringes", flat.filter)
        else:
            wanted.append(_SKY)
    return [request.archive.calibration(name, flat, overscan=flat.overscan) for name in wanted]


def _scales(request: Request, sky: Frame, flat: NDArray[np.float32], good: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return what turns the large scales of a flat into those of a sky flat.

    That of the ratio, not the ratio of two: what both have at small scales falls out before it is smoothed.
    """
    import numpy as np

    from dpu_recipes.ccd.large_scale import large_scale

    ratio = np.divide(image(request, sky, shape=flat.shape), flat, out=np.ones_like(flat), where=good)
    return large_scale(ratio, good=good, mesh=request.parameters.LARGE_SCALE)
