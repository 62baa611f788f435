"""TwilightFlat: the flat field of a chip by the sky in twilight."""

from __future__ import annotations

from dpu_recipes.tasks.flat import FlatRecipe


class TwilightFlat(FlatRecipe):
    """The flat field of a chip by the sky in twilight, its mean 1: as FlatRecipe says; stars are left out."""

    name = "TwilightFlat"
    selects = "RawTwilightFlatFrame"
    makes = "TwilightFlatFrame"
    starry = True
