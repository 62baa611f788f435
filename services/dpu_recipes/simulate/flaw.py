"""What can go wrong with the lit exposures of a night: each flaw spoils its exposures, and the truth tells of it."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dpu_recipes.simulate.exposure import Exposure

#: By name, what it means. All but 'flicker', which spoils all dome flats, spoil the last exposure of each class.
FLAWS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "shutter": "the last one got no light",
        "saturated": "the last one got four times its light, or more: 100,000 ADU",
        "filter": "the last one was taken through another filter",
        "mode": "the last one was read out in another mode",
        "flicker": "the lamp's light differs by a fifth from flat to flat and by 1 % along the rows",
    }
)

#: What the flaws are made of.
OVEREXPOSED, AT_LEAST = 4.0, 100_000.0
OTHER_FILTER = "#843"
OTHER_MODE = "other"
#: Factors of the lamp's light, in turn.
UNSTEADY = (1.0, 1.2, 0.85)
FLICKER = 0.01


def spoiled(exposures: list[Exposure], flaw: str) -> list[Exposure]:
    """Return the exposures of a night with a flaw; '' spoils none."""
    if flaw == "flicker":
        lit = [place for place, exposure in enumerate(exposures) if exposure.lamp]
        places = dict(zip(lit, UNSTEADY * len(lit), strict=False))
        return [
            replace(exposure, light=exposure.light * places[place], flicker=FLICKER) if place in places else exposure
            for place, exposure in enumerate(exposures)
        ]
    last = {exposure.frame_class: place for place, exposure in enumerate(exposures) if exposure.light}
    return [
        _spoiled(exposure, flaw) if flaw and place in last.values() else exposure
        for place, exposure in enumerate(exposures)
    ]


def _spoiled(exposure: Exposure, flaw: str) -> Exposure:
    match flaw:
        case "shutter":
            return replace(exposure, light=0.0)
        case "saturated":
            return replace(exposure, light=max(exposure.light * OVEREXPOSED, AT_LEAST))
        case "filter":
            return replace(exposure, filter=OTHER_FILTER)
        case "mode":
            return replace(exposure, mode=OTHER_MODE)
        case _:
            raise ValueError(f"flaw {flaw!r} is not one of {', '.join(FLAWS)}")
