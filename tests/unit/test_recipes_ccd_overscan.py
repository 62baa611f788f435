import numpy as np
import pytest

from dpu_recipes.ccd.overscan import Correction, Method, correction

NOISE = 4.0
ROWS, COLUMNS = 400, 32


@pytest.fixture
def strip() -> np.ndarray:
    """A strip at the side whose level drifts from row to row."""
    rng = np.random.default_rng(20000428)
    return 200.0 + truth_a_row() + rng.normal(0.0, NOISE, (ROWS, COLUMNS))


def truth_a_row() -> np.ndarray:
    return 0.05 * np.arange(ROWS)[:, np.newaxis]


def test_the_eleven_methods_read_the_strips_that_their_names_say():
    assert [Method(number).strip for number in range(11)] == [
        "",
        "prescan_x",
        "overscan_x",
        "prescan_y",
        "overscan_y",
        "prescan_x",
        "overscan_x",
        "prescan_y",
        "overscan_y",
        "prescan_x",
        "overscan_x",
    ]


def test_method_0_takes_nothing_off():
    found = correction(Method.NONE, None)
    assert found.level.tolist() == [[0.0]]
    assert found.variance == 0.0


@pytest.mark.parametrize("method", [m for m in Method if m])
def test_the_level_broadcasts_against_the_data(method: Method, strip: np.ndarray):
    sideways = strip if method.strip.endswith("_x") else strip.T
    shape = {"CONSTANT": (1, 1), "ROWS": (ROWS, 1), "SMOOTH": (ROWS, 1), "COLUMNS": (1, ROWS)}
    found = correction(method, sideways)
    assert found.level.shape == shape[method.name.split("_")[0]]
    assert found.level.dtype == np.float32


@pytest.mark.parametrize("method", [Method.ROWS_PRESCAN_X, Method.ROWS_OVERSCAN_X])
def test_a_row_gets_the_mean_of_its_strip(method: Method, strip: np.ndarray):
    found = correction(method, strip)
    np.testing.assert_allclose(found.level, strip.mean(axis=1, keepdims=True), atol=1e-3)


@pytest.mark.parametrize("method", [Method.COLUMNS_PRESCAN_Y, Method.COLUMNS_OVERSCAN_Y])
def test_a_column_gets_the_mean_of_its_strip(method: Method, strip: np.ndarray):
    found = correction(method, strip.T)
    np.testing.assert_allclose(found.level, strip.T.mean(axis=0, keepdims=True), atol=1e-3)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_constant_is_the_mean_of_the_strip(number: int, strip: np.ndarray):
    found = correction(Method(number), strip)
    assert found.level[0, 0] == pytest.approx(strip.mean(), abs=1e-3)


@pytest.mark.parametrize("number", [9, 10])
def test_the_smoothed_level_is_a_mean_of_ten_rows(number: int, strip: np.ndarray):
    rows = strip.mean(axis=1)
    expected = (0.5 * rows[100] + rows[101:110].sum() + 0.5 * rows[110]) / 10
    found = correction(Method(number), strip)
    assert found.level[105, 0] == pytest.approx(expected, abs=1e-3)


def test_the_smoothed_level_of_a_slope_is_the_slope_away_from_the_ends():
    rows = np.repeat(np.arange(50.0)[:, np.newaxis], 8, axis=1)
    found = correction(Method.SMOOTH_ROWS_OVERSCAN_X, rows)
    np.testing.assert_allclose(found.level[5:-5, 0], np.arange(5.0, 45.0), rtol=1e-6)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (2, NOISE**2 / (ROWS * COLUMNS)),
        (6, NOISE**2 / COLUMNS),
        (10, 0.095 * NOISE**2 / COLUMNS),
    ],
)
def test_the_variance_is_that_of_the_level(number: int, expected: float, strip: np.ndarray):
    # 12,400 degrees of freedom: the variance is known to 1.3 %; rows at the ends average fewer than ten.
    assert correction(Method(number), strip).variance == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("number", [6, 10])
def test_the_variance_predicts_the_scatter_of_the_level_about_the_truth(number: int, strip: np.ndarray):
    found = correction(Method(number), strip)
    residual = (found.level - 200.0 - truth_a_row())[10:-10]
    assert residual.std() == pytest.approx(found.variance**0.5, rel=0.15)


def test_a_cosmic_ray_in_the_strip_changes_no_level(strip: np.ndarray):
    struck = strip.copy()
    struck[100:103, 5:8] += 5000.0
    clean, found = correction(Method(6), strip), correction(Method(6), struck)
    # Three of 32 pixels fewer: the mean moves by its own error, not by thousands.
    assert np.abs(found.level - clean.level).max() < 3 * NOISE * np.sqrt(3 / (32 * 29))
    assert found.variance == pytest.approx(clean.variance, rel=0.01)


def test_a_strip_without_noise_has_no_variance():
    found = correction(Method(6), np.full((10, 4), 300, np.uint16))
    assert_same(found, level=300.0, variance=0.0)


def test_a_strip_of_one_column_is_its_own_level():
    found = correction(Method(6), np.arange(10, dtype=np.uint16)[:, np.newaxis])
    assert found.level[:, 0].tolist() == list(range(10))
    assert found.variance == 0.0


@pytest.mark.parametrize("missing", [None, np.empty((10, 0))])
def test_a_missing_strip_is_named(missing: np.ndarray | None):
    with pytest.raises(ValueError, match="overscan method 6 needs a strip overscan_x"):
        correction(Method(6), missing)


def assert_same(found: Correction, *, level: float, variance: float) -> None:
    assert (found.level == level).all()
    assert found.variance == variance
