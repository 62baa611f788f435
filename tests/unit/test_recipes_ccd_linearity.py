import numpy as np
import pytest

from dpu_recipes.ccd.linearity import fitted

LIGHT = np.array([2e3, 4e3, 8e3, 16e3, 24e3, 32e3, 40e3, 48e3]).repeat(2)
RATE = 2_000.0


def counted(light: np.ndarray, lost: float = 0.02) -> np.ndarray:
    """Return what a CCD counts that loses a part of 50,000 ADU."""
    return light * (1 - lost * light / 50_000)


def test_what_was_lost_is_given_back():
    found = fitted(counted(LIGHT).tolist(), (LIGHT / RATE).tolist())
    assert np.abs(found.corrected(counted(LIGHT)) / LIGHT - 1).max() < 1e-4
    assert found.departure(48_000) == pytest.approx(0.0194, abs=2e-4)
    assert found.highest == pytest.approx(counted(LIGHT).max())


def test_a_frame_keeps_its_type():
    found = fitted(counted(LIGHT).tolist(), (LIGHT / RATE).tolist())
    frame = np.full((3, 4), 20_000.0, np.float32)
    light = found.corrected(frame)
    assert light.dtype == np.float32
    assert (frame == 20_000).all()


def test_a_linear_ccd_is_left_as_it_is():
    found = fitted(LIGHT.tolist(), (LIGHT / RATE).tolist())
    assert (found.departure(48_000), found.scatter, found.error) == pytest.approx((0, 0, 0), abs=1e-9)


def test_the_error_is_how_far_a_lamp_carries_it_away():
    random = np.random.default_rng(6)
    tops = []
    for _ in range(300):
        lamp = LIGHT * random.normal(1, 0.002, LIGHT.size)
        found = fitted(lamp.tolist(), (LIGHT / RATE).tolist())
        tops.append((found.corrected(np.array(48_000.0)) / 48_000 - 1, found.error))
    assert np.std([top for top, _ in tops]) == pytest.approx(np.median([error for _, error in tops]), rel=0.15)


@pytest.mark.parametrize("levels", [[1e4], [1e4, 2e4, 3e4], [1e4, 1.02e4, 1.04e4, 2e4, 3e4]])
def test_fewer_than_four_levels_are_too_few(levels: list[float]):
    with pytest.raises(ValueError, match=r"[13] levels are too few: 4 are needed, each a tenth above the one below it"):
        fitted(levels, [level / RATE for level in levels])
