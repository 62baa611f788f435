"""A field of standard stars: Landolt's, where they are, among stars and galaxies of the simulator's own."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from dpu_recipes import reference_file
from dpu_recipes.reference import SHIPPED
from dpu_recipes.simulate.field import Field

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Selected area 98, the densest of Landolt's fields: its middle, ICRS, degrees, and its name.
CENTRE: Final = (103.02, -0.33)
NAME: Final = "SA98"
#: Seconds of an exposure: stars of V 12 to 16 are neither full nor faint.
SECONDS: Final = 5.0
#: Airmass of the first exposure and of the last.
AIRMASSES: Final = (1.1, 1.9)
#: Magnitude of 1 ADU a second above the atmosphere, on every CCD, and what an airmass takes, magnitudes.
ZERO_POINT, EXTINCTION = 24.5, 0.14


def added(drawn: Field) -> Field:
    """Return a field with Landolt's stars added behind its own sources; their light is by V, without a colour term."""
    listed = reference_file.read(SHIPPED["LANDOLT"], {})
    count = len(listed)
    none = np.zeros(count)
    standards = Field(
        ra=np.asarray(listed["RA"], dtype=np.float64),
        dec=np.asarray(listed["DEC"], dtype=np.float64),
        flux=10 ** (-0.4 * (np.asarray(listed["V"], dtype=np.float64) - ZERO_POINT)),
        **dict.fromkeys(("radius", "index", "ratio", "angle"), none),
    )
    return Field(**{item.name: _both(drawn, standards, item.name) for item in fields(Field)})


def dimmed(field: Field, airmass: float) -> Field:
    """Return a field as it is seen through the atmosphere."""
    return replace(field, flux=field.flux * 10 ** (-0.4 * EXTINCTION * airmass))


def _both(one: Field, other: Field, name: str) -> NDArray[np.float64]:
    return np.concatenate([getattr(one, name), getattr(other, name)])
