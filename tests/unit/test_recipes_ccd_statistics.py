import numpy as np
import pytest

from dpu_recipes.ccd import statistics


def clipped(values: np.ndarray, threshold: float = 5.0, iterations: int = 5) -> statistics.Clipped:
    return statistics.clipped(values, threshold=threshold, iterations=iterations)


def pair(noise: float, seed: int, shape: tuple[int, int] = (1000, 500)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    one, two = np.round(rng.normal(1000.0, noise, (2, *shape))).astype(np.uint16)
    return one, two


# Below about 0.7 ADU the rounding error depends on where the level lies between two whole numbers.
@pytest.mark.parametrize("noise", [1.0, 2.0, 5.0, 8.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_difference_of_two_biases_has_the_read_noise_and_the_rounding(noise: float, seed: int):
    found = clipped(statistics.difference(*pair(noise, seed))).rms / np.sqrt(2)
    expected = np.sqrt(noise**2 + 1 / 12)
    bar = 0.004 * expected
    assert abs(found - expected) < bar, f"measured {found:.4f}, predicted {expected:.4f} +- {bar:.4f} ADU"


def test_outliers_leave_no_trace():
    one, two = pair(5.0, 4)
    clean = clipped(statistics.difference(one, two))
    one[:, 100] = 65535
    two[200:400, 200] = 0
    one[5, ::7] = 30000
    found = clipped(statistics.difference(one, two))
    assert found.rms == pytest.approx(clean.rms, rel=0.002)
    assert found.rejected == pytest.approx(1000 + 200 + 500 // 7, abs=5)
    assert found.count + found.rejected == one.size


def test_the_difference_of_unsigned_numbers_does_not_wrap():
    found = statistics.difference(np.array([[0, 65535]], np.uint16), np.array([[65535, 0]], np.uint16))
    assert found.tolist() == [[-65535, 65535]]


def test_the_difference_of_big_endian_numbers_is_the_same():
    one, two = pair(5.0, 5)
    found = statistics.difference(one.astype(">u2"), two.astype(">u2"))
    np.testing.assert_array_equal(found, statistics.difference(one, two))


def test_mean_and_median_are_those_of_what_is_kept():
    values = np.append(np.tile([1.0, 2.0, 3.0, 5.0], 10), 100000.0)
    found = clipped(values)
    assert (found.mean, found.count, found.rejected) == (2.75, 40, 1)
    assert statistics.median(values, found) == 2.5


def test_a_constant_has_no_scatter():
    found = clipped(np.full((10, 10), 7, np.uint16))
    assert (found.mean, found.rms, found.rejected) == (7.0, 0.0, 0)


def test_not_a_number_counts_as_an_outlier():
    found = clipped(np.array([1.0, np.nan, 3.0]))
    assert (found.mean, found.count, found.rejected) == (2.0, 2, 1)


def test_values_that_are_almost_all_missing_have_statistics():
    values = np.full(1_000_000, np.nan)
    values[7] = 3.0
    found = clipped(values)
    assert (found.mean, found.rms, found.count, found.rejected) == (3.0, 0.0, 1, 999_999)


def test_it_is_exact_far_from_zero():
    values = 30000.0 + np.random.default_rng(9).normal(0.0, 2.0, (500, 300))
    found = clipped(values, threshold=20.0)
    assert found.mean == pytest.approx(values.mean(), rel=1e-13)
    assert found.rms == pytest.approx(values.std(), rel=1e-11)


def test_nothing_finite_has_no_statistics():
    with pytest.raises(ValueError, match="no value is finite"):
        clipped(np.array([np.nan, np.inf]))


def test_it_stops_when_nothing_changes():
    values = np.random.default_rng(6).normal(0.0, 1.0, 10000)
    assert clipped(values, iterations=50).iterations < 5


def test_it_never_iterates_more_often_than_it_may():
    values = np.random.default_rng(7).standard_cauchy(10000)
    assert clipped(values, threshold=2.0, iterations=3).iterations == 3


def test_windows_find_the_worst_of_a_frame():
    image = np.random.default_rng(8).normal(0.0, 1.0, (160, 240))
    image[:20, :30] += 4.0
    image[-20:, -30:] *= 6.0
    found = statistics.windows(image, grid=8, threshold=5.0, iterations=5)
    assert found.flatness == pytest.approx(4.0, abs=0.3)
    assert found.stdev == pytest.approx(6.0, rel=0.1)


def test_a_frame_smaller_than_the_grid_has_windows_of_one_pixel():
    found = statistics.windows(np.array([[1.0, 3.0]]), grid=8, threshold=5.0, iterations=5)
    assert (found.flatness, found.stdev) == (1.0, 0.0)
