"""How the telescope maps the sky onto one CCD, in truth and as a header has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dpu_recipes.simulate.field import projected

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

#: By how much a radius grows at the edge of the focal plane, part of it: the same part at any size.
DISTORTION = (0.5e-3, 1.5e-3)
#: How a CCD is put in: degrees that it is turned by, and pixels that it is off its place, rms.
TURN, SHIFT = 0.05, 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Optics:
    """Where light of the sky falls on one CCD. Pixels from 0 at the middle of the first that sees light, (y, x).

    A header knows `axis`, `pixel_deg` and `rotation`, and that in the mosaic east is to the left and north is up; it
    knows nothing else.
    """

    #: Degrees.
    pixel_deg: float
    #: Where the optical axis would meet the plane of the CCD, were it in its place.
    axis: tuple[float, float]
    #: Part of a radius of `reach` pixels from the axis by which it grows; the growth goes as the radius squared.
    distortion: float
    reach: float
    #: Degrees about the axis, and pixels.
    turn: float
    shift: tuple[float, float]
    #: Degrees by which the CCD's image is turned, counter-clockwise, to lie in the mosaic.
    rotation: int = 0

    def pixels(
        self, ra: NDArray[np.float64], dec: NDArray[np.float64], pointing: tuple[float, float]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return where (y, x) light from `ra`, `dec` falls while the axis points to `pointing`; all in degrees."""
        east, north = projected(ra, dec, pointing)
        y, x = north / self.pixel_deg, -east / self.pixel_deg
        growth = 1 + self.distortion * (y**2 + x**2) / self.reach**2
        y, x = self.turned(y * growth, x * growth)
        cosine, sine = np.cos(np.radians(self.turn)), np.sin(np.radians(self.turn))
        return (
            self.axis[0] + self.shift[0] + cosine * y + sine * x,
            self.axis[1] + self.shift[1] + cosine * x - sine * y,
        )

    def turned(self, y: Any, x: Any) -> tuple[Any, Any]:
        """Return along the CCD's rows and columns what is `y` up and `x` to the right in the mosaic."""
        return {0: (y, x), 90: (-x, y), 180: (-y, -x), 270: (x, -y)}[self.rotation]


def put_in(generator: Generator) -> tuple[float, tuple[float, float]]:
    """Return `turn` and `shift` of one CCD, put in as well as hands can."""
    y, x = generator.normal(0, SHIFT, 2)
    return float(generator.normal(0, TURN)), (float(y), float(x))
