"""DomeFlat: the flat field of a chip by the dome's lamp."""

from __future__ import annotations

from dpu_recipes.tasks.flat import FlatRecipe


class DomeFlat(FlatRecipe):
    """The flat field of a chip by the dome's lamp, its mean 1."""

    name = "DomeFlat"
    selects = "RawDomeFlatFrame"
    makes = "DomeFlatFrame"
    starry = False
