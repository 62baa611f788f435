import numpy as np
import pytest

from dpu_recipes.mask import Flag, flagged, good, names

PLANE = np.array([[0, 2, 32], [34, 128, 4]], np.uint8)


def test_a_pixel_with_any_flag_is_bad() -> None:
    np.testing.assert_array_equal(good(PLANE), [[1, 0, 0], [0, 1, 0]])
    assert good(PLANE).dtype == np.uint8


def test_flags_that_are_ignored_leave_a_pixel_good() -> None:
    np.testing.assert_array_equal(good(PLANE, Flag.HOT | Flag.COLD), [[1, 1, 0], [0, 1, 1]])


def test_a_bad_pixel_map_becomes_a_flag_plane_and_back() -> None:
    plane = flagged(good(PLANE), Flag.COLD)
    np.testing.assert_array_equal(plane, [[0, 4, 4], [4, 0, 4]])
    np.testing.assert_array_equal(good(plane), good(PLANE))


@pytest.mark.parametrize(("value", "expected"), [(0, ()), (2, ("HOT",)), (33, ("NODATA", "COSMIC"))])
def test_a_pixel_says_why_it_is_masked(value: int, expected: tuple[str, ...]) -> None:
    assert names(value) == expected
