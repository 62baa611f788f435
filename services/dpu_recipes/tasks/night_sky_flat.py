"""NightSkyFlat: the flat field of a chip by the sky of science frames."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from dpu_recipes.pars import parameter
from dpu_recipes.tasks.flat import FlatRecipe


class NightSkyFlatFlag(IntFlag):
    """Which limit a NightSkyFlatFrame missed."""

    MAXIMUM_REJECTED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NightSkyFlatParameters:
    """Process parameters of a NightSkyFlatFrame."""

    SIGMA_CLIP: float = parameter(5.0, "limit of rejection about a pixel's median", unit="expected noise", minimum=1)
    MIN_FLAT_MEAN: float = parameter(200.0, "a frame of less sky is left out", unit="ADU", minimum=1)
    MAX_FLAT_MEAN: float = parameter(30000.0, "a frame of more sky is left out", unit="ADU", minimum=1)
    MAXIMUM_REJECTED: float = parameter(
        0.01, "limit of the part of all values that is rejected, sources aside", maximum=1
    )


class NightSkyFlat(FlatRecipe):
    """The flat field of a chip by the night sky, its mean 1: as FlatRecipe says; stars and galaxies are left out."""

    name = "NightSkyFlat"
    selects = "RawScienceFrame"
    makes = "NightSkyFlatFrame"
    parameters = NightSkyFlatParameters
    flags = NightSkyFlatFlag
    starry = True
