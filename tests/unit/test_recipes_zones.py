"""Tiles of the sky, and cones across them: compared with looking at every position."""

import numpy as np
import pytest

from dpu_recipes.sky.zones import in_cone, separation, tile_of, tiles_of_cone

COUNT = 20_000
GENERATOR = np.random.default_rng(3)
RA = GENERATOR.uniform(0, 360, COUNT)
DEC = np.sort(np.degrees(np.arcsin(GENERATOR.uniform(-1, 1, COUNT))))
CONES = [
    ((201.4, -8.8), 0.5),
    ((0.1, 3.0), 2.0),
    ((359.9, -44.0), 7.0),
    ((10.0, 89.7), 1.0),
    ((10.0, -90.0), 3.0),
    ((77.0, 84.0), 5.9),
    ((180.0, 0.0), 60.0),
]


@pytest.mark.parametrize(("centre", "radius"), CONES)
def test_a_cone_holds_what_is_near_and_lies_in_its_tiles(centre: tuple[float, float], radius: float) -> None:
    expected = np.flatnonzero(separation(RA, DEC, *centre) <= radius)
    assert in_cone(RA, DEC, centre, radius).tolist() == expected.tolist()
    assert set(tile_of(RA, DEC)[expected]) <= set(tiles_of_cone(*centre, radius))


def test_a_small_cone_touches_few_tiles() -> None:
    assert tiles_of_cone(202.0, -8.0, 0.2) == [int(tile_of(np.array([202.0]), np.array([-8.0]))[0])]
    assert len(tiles_of_cone(0.0, 0.0, 0.2)) == 4


def test_the_sky_is_cut_into_1654_tiles() -> None:
    counts = np.bincount(tile_of(RA, DEC))
    assert len(counts) == 1654
    everywhere = np.concatenate([tile_of(np.array([0.0, 360.0, -0.1]), np.full(3, dec)) for dec in (-90.0, 0.0, 90.0)])
    assert (everywhere.min(), everywhere.max()) == (0, 1653)


def test_small_angles_are_exact() -> None:
    milliarcsecond = 1 / 3.6e6
    assert separation(np.array([10.0]), np.array([60.0 + milliarcsecond]), 10.0, 60.0)[0] == pytest.approx(
        milliarcsecond, rel=1e-6
    )
