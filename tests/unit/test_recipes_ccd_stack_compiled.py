"""Compiled and numpy's stack give the same to the last bit. Compiling takes some seconds where it was never done."""

from typing import Any

import numpy as np
import pytest

from dpu_recipes.ccd import stack, stack_compiled
from dpu_recipes.ccd.layer import Layer
from dpu_recipes.ccd.stack import clipped_mean

NOISE = 5.0
LIMIT = np.float32(3 * NOISE)


def stored(count: int, shape: tuple[int, int], seed: int = 1) -> np.ndarray[Any, Any]:
    """Return raw frames (n, y, x) as FITS stores them, with outliers to both sides."""
    random = np.random.default_rng(seed)
    adu = np.rint(random.normal(1000.0, NOISE, (count, *shape)))
    outliers = random.random(adu.shape) < 0.05
    adu[outliers] = random.integers(0, 65536, int(outliers.sum()))
    return (adu - 32768).astype(">i2")


def layers_of(pixels: np.ndarray[Any, Any], shape: tuple[int, int]) -> list[Layer]:
    """Return layers whose levels have a `shape` and a fraction."""
    levels = np.random.default_rng(2).normal(300.0, 1.0, (len(pixels), *shape)).astype(np.float32)
    return [Layer(pixels=image, level=level, zero=32768.0) for image, level in zip(pixels, levels, strict=True)]


def assert_same(layers: list[Layer]) -> None:
    """Fail where compiled code and numpy differ by one bit."""
    shape = layers[0].pixels.shape
    found, wanted = [(np.empty(shape, np.float32), np.empty(shape, np.uint16)) for _ in range(2)]
    stack_compiled.fill(layers, LIMIT, *found)
    stack.fill(layers, LIMIT, *wanted)
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert wanted[1].min() < len(layers), "no pixel was rejected: the test tells little"


@pytest.mark.parametrize("count", [2, 3, 5, 10, 33])
def test_it_gives_what_numpy_gives(count: int):
    assert_same(layers_of(stored(count, (40, 700)), (40, 1)))


def test_blocks_and_tiles_cover_every_pixel(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stack_compiled, "BLOCK_BYTES", 4 * 1030 * 5 * 7)
    assert_same(layers_of(stored(5, (50, 1030)), (50, 1)))


def test_the_data_area_of_a_frame_is_read_where_it_lies():
    frames = stored(4, (60, 200))
    assert_same(layers_of(frames[:, 3:-7, 48:-46], (50, 1)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (30, 90)])
def test_levels_of_every_shape_are_subtracted(shape: tuple[int, int]):
    assert_same(layers_of(stored(4, (30, 90)), shape))


@pytest.mark.parametrize("kind", ["<u2", "<i2", ">i4", "<f4"])
def test_frames_stored_otherwise_are_read_too(kind: str):
    pixels = (stored(4, (30, 90)).astype(np.int32) + 32768).clip(0, 32767).astype(kind)
    assert_same(layers_of(pixels, (30, 1)))


def test_columns_in_wrong_order_are_read_in_it():
    assert_same(layers_of(stored(3, (30, 90))[:, ::-1, ::-1], (30, 1)))


def test_large_stacks_are_compiled(monkeypatch: pytest.MonkeyPatch):
    layers = layers_of(stored(3, (30, 90)), (30, 1))
    small = clipped_mean(layers, noise=NOISE, threshold=3.0)
    monkeypatch.setattr(stack, "COMPILED_FROM", 3 * 30 * 90)
    monkeypatch.setattr(stack, "fill", None)
    large = clipped_mean(layers, noise=NOISE, threshold=3.0)
    np.testing.assert_array_equal(small.mean, large.mean)
    np.testing.assert_array_equal(small.count, large.count)
