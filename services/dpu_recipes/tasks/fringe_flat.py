"""FringeFlat: the fringes of a chip and filter, from the sky of science frames."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING

from dpu_recipes.pars import parameter
from dpu_recipes.tasks import product_image
from dpu_recipes.tasks.flat import Calibration, Combined, FlatRecipe, log_stars
from dpu_recipes.tasks.good_pixels import good_pixels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dpu_recipes.ccd.flat import FlatLayer
    from dpu_recipes.ccd.fringe import FringeLayer
    from dpu_recipes.frames import Frame
    from dpu_recipes.task import Request

log = logging.getLogger(__name__)


class FringeFlag(IntFlag):
    """Which limit a FringeFrame missed."""

    MAXIMUM_REJECTED = 1
    MAXIMUM_AMPLITUDE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FringeParameters:
    """Process parameters of a FringeFrame."""

    SIGMA_CLIP: float = parameter(5.0, "limit of rejection about a pixel's median", unit="expected noise", minimum=1)
    MIN_FLAT_MEAN: float = parameter(200.0, "a frame of less sky is left out", unit="ADU", minimum=1)
    MAX_FLAT_MEAN: float = parameter(30000.0, "a frame of more sky is left out", unit="ADU", minimum=1)
    BACKGROUND_SIZE: int = parameter(
        256, "mesh of the background, wider than fringes are apart", unit="pixels", minimum=64
    )
    MAXIMUM_REJECTED: float = parameter(
        0.01, "limit of the part of all values that is rejected, sources aside", maximum=1
    )
    MAXIMUM_AMPLITUDE: float = parameter(0.2, "limit of the rms of the fringes", unit="sky")


class FringeFlat(FlatRecipe):
    """The fringes of a chip and filter in units of the sky, their mean 0, as a mean of flat-fielded science frames."""

    name = "FringeFlat"
    selects = "RawScienceFrame"
    makes = "FringeFrame"
    parameters = FringeParameters
    flags = FringeFlag
    seconds = 12.0
    memory_mib = 1536
    starry = True

    def combined(self, request: Request, layers: list[FlatLayer], known: Calibration) -> Combined:
        """Return the fringes that some frames have in common."""
        import numpy as np

        from dpu_recipes.ccd.fringe import CLIP, ITERATIONS, FringeLayer, fringes
        from dpu_recipes.ccd.statistics import clipped

        flat, good, frames = _response(request, known)
        mesh = request.parameters.BACKGROUND_SIZE
        log.info("Averaging the fringes of %d frames, background in meshes of %d pixels", len(layers), mesh)
        found, marked = fringes(
            [
                FringeLayer(layer=each.layer, bias=each.bias, light=each.light, flat=flat, good=good, mesh=mesh)
                for each in layers
            ],
            noise=known.noise,
            threshold=request.parameters.SIGMA_CLIP,
        )
        log_stars(marked)
        fringe = found.mean
        measured = clipped(fringe[good], threshold=CLIP, iterations=ITERATIONS)
        fringe -= np.float32(measured.mean)
        fringe[~good] = 0
        noise = _noise(marked, known)
        values = {
            "REJECTED": found.rejected,
            # Noise is part of what is seen.
            "AMPLITUDE": math.sqrt(max(measured.rms**2 - noise**2, 0.0)),
            "STDEV": measured.rms,
            "BAD": 1 - float(good.mean()),
        }
        return Combined(fringe, values, frames)


def _response(request: Request, known: Calibration) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[Frame, ...]]:
    """Return what each pixel makes of light, which pixels are good, and the products that say so."""
    shape = known.bias.shape
    master = request.archive.calibration("MasterFlatFrame", known.frame, overscan=known.method)
    flat = product_image.image(request, master, shape=shape)
    good, maps = good_pixels(request, known.frame, flat)
    return flat, good, (master, *maps)


def _noise(layers: list[FringeLayer], known: Calibration) -> float:
    """Return the expected noise of a pixel in the mean of all, in units of the sky."""
    return 1 / math.sqrt(sum(known.noise.relative(layer.light) ** -2 for layer in layers))
