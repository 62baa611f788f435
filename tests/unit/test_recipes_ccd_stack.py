import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from dpu_recipes.ccd import stack
from dpu_recipes.ccd.layer import Layer
from dpu_recipes.ccd.stack import clipped_mean

NOISE = 5.0


def layers_of(values: np.ndarray) -> list[Layer]:
    """Layers whose ADU are `values` (n, y, x)."""
    return [Layer(pixels=image, level=np.zeros((1, 1), np.float32)) for image in values]


def biases(count: int, shape: tuple[int, int] = (200, 300), seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(1000.0, NOISE, (count, *shape)).astype(np.float32)


def oracle(values: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """The same by numpy's own median, in double precision."""
    exact = values.astype(np.float64)
    far = np.abs(exact - np.median(exact, axis=0)) > limit
    return np.ma.array(exact, mask=far).mean(axis=0).filled(np.nan), (~far).sum(axis=0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 10, 17, 33])
def test_it_is_the_mean_of_what_lies_near_the_median(count: int):
    values = biases(count)
    mean, kept = oracle(values, 2.0 * NOISE)
    found = clipped_mean(layers_of(values), noise=NOISE, threshold=2.0)
    # Of two values both may lie too far from the point between them; then that point stands for them.
    np.testing.assert_allclose(found.mean, np.where(kept, mean, np.median(values, axis=0)), rtol=2e-7)
    np.testing.assert_array_equal(found.count, kept)


@pytest.mark.parametrize("outliers", [1, 2, 4])
def test_fewer_than_half_outliers_leave_no_trace(outliers: int):
    values = biases(9)
    values[:outliers, 50, 60] = 60000.0
    found = clipped_mean(layers_of(values), noise=NOISE, threshold=5.0)
    assert found.count[50, 60] == 9 - outliers
    assert found.mean[50, 60] == pytest.approx(values[outliers:, 50, 60].mean(), abs=1e-3)


@pytest.mark.parametrize(("threshold", "cost"), [(3.0, 1.018), (5.0, 1.000)])
def test_clipping_ten_frames_costs_what_the_theory_says(threshold: float, cost: float):
    found = clipped_mean(layers_of(biases(10, (1000, 1000))), noise=NOISE, threshold=threshold)
    # 10^6 pixels: the rms is known to 0.07 %.
    assert found.mean.std() / (NOISE / np.sqrt(10)) == pytest.approx(cost, abs=0.003)


def test_the_order_of_frames_and_an_added_constant_change_nothing():
    values = biases(7)
    first = clipped_mean(layers_of(values), noise=NOISE, threshold=3.0)
    turned = clipped_mean(layers_of(values[::-1] + np.float32(256.0)), noise=NOISE, threshold=3.0)
    np.testing.assert_array_equal(first.count, turned.count)
    np.testing.assert_allclose(first.mean + 256.0, turned.mean, atol=1e-3)


def test_stored_numbers_become_adu():
    stored = np.array([[[0, 100]], [[2, 102]], [[4, 104]]], ">i2")
    level = np.array([[10.0]], np.float32)
    layers = [Layer(pixels=image, level=level, zero=32768.0) for image in stored]
    found = clipped_mean(layers, noise=100.0, threshold=3.0)
    assert found.mean.tolist() == [[32760.0, 32860.0]]


def test_the_level_keeps_its_fraction_beside_a_large_zero():
    stored = np.full((3, 1, 1), -31768, ">i2")
    layers = [Layer(pixels=image, level=np.array([[999.9375]], np.float32), zero=32768.0) for image in stored]
    assert clipped_mean(layers, noise=5.0, threshold=3.0).mean[0, 0] == 0.0625


def test_each_row_has_its_own_level():
    values = np.tile(np.arange(100.0, dtype=np.float32)[:, np.newaxis], (3, 1, 8))
    level = np.arange(100.0, dtype=np.float32)[:, np.newaxis]
    layers = [Layer(pixels=image, level=level) for image in values]
    assert not clipped_mean(layers, noise=1.0, threshold=3.0).mean.any()


def test_blocks_cover_every_row_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stack, "BLOCK_BYTES", 5000)
    found = list(stack.blocks((101, 50), 5))
    assert found[0][0] == 0
    assert found[-1][1] == 101
    assert all(before[1] == after[0] for before, after in pairwise(found))
    assert len(found) > 10


def test_memory_does_not_grow_with_the_number_of_frames():
    pixels = biases(1, (2000, 500))[0].astype(np.uint16)
    level = np.zeros((1, 1), np.float32)
    peaks = []
    for count in (5, 50):
        layers = [Layer(pixels=pixels, level=level)] * count
        # Compiled code, which many frames take, is loaded once and stays.
        clipped_mean(layers, noise=NOISE, threshold=3.0)
        tracemalloc.start()
        clipped_mean(layers, noise=NOISE, threshold=3.0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    results = pixels.size * (4 + 2)
    assert max(peaks) < results + 4 * stack.BLOCK_BYTES, f"peaks of 5 and 50 frames: {peaks} bytes"


def test_frames_of_two_shapes_are_refused():
    values = [np.zeros((3, 4), np.float32), np.zeros((4, 3), np.float32)]
    layers = [Layer(pixels=image, level=np.zeros((1, 1), np.float32)) for image in values]
    with pytest.raises(ValueError, match=r"one shape.*\(3, 4\), \(4, 3\)"):
        clipped_mean(layers, noise=1.0, threshold=3.0)
