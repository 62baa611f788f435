"""What of the sky falls on one CCD in one exposure, beside the light of the sky itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from dpu_recipes.simulate import galaxies, stars, tracks
from dpu_recipes.simulate.galaxies import Galaxies
from dpu_recipes.simulate.stars import Stars

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dpu_recipes.simulate.detector import Image, Layout
    from dpu_recipes.simulate.exposure import Exposure
    from dpu_recipes.simulate.field import Field
    from dpu_recipes.simulate.optics import Optics
    from dpu_recipes.simulate.tracks import Tracks


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The sources of one CCD in one exposure."""

    stars: Stars = stars.NONE
    galaxies: Galaxies = galaxies.NONE
    tracks: Tracks = tracks.NONE

    def add_to(self, light: Image) -> None:
        """Add their light to `light` : (y, x) float32, ADU, in place."""
        self.stars.add_to(light)
        self.galaxies.add_to(light)
        self.tracks.add_to(light)


EMPTY: Final = Scene()


def seen(field: Field, optics: Optics, layout: Layout, exposure: Exposure, trails: Tracks) -> Scene:
    """Return what one CCD sees of a field in an exposure, and the satellites that cross it."""
    y, x = optics.pixels(field.ra, field.dec, exposure.pointing)
    edge = np.where(field.radius > 0, galaxies.REACH * field.radius + galaxies.BLUR * stars.SEEING, stars.REACH)
    near = (y > -edge) & (y < layout.rows + edge) & (x > -edge) & (x < layout.columns + edge)
    round_, long = near & (field.radius == 0), near & (field.radius > 0)
    light = field.flux * exposure.exptime

    def taken(values: NDArray[np.float64], which: NDArray[np.bool_]) -> Image:
        chosen: Image = values[which].astype(np.float32)
        return chosen

    return Scene(
        stars=Stars(y=taken(y, round_), x=taken(x, round_), peak=taken(light / stars.PEAK_FLUX, round_)),
        galaxies=Galaxies(
            y=taken(y, long),
            x=taken(x, long),
            flux=taken(light, long),
            radius=taken(field.radius, long),
            index=taken(field.index, long),
            ratio=taken(field.ratio, long),
            angle=taken(field.angle - np.radians(optics.rotation), long),
        ),
        tracks=trails,
    )
