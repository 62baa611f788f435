"""Figures of quality: pictures and charts as PNG, of whatever a recipe measures."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from dpu_recipes.figure import PANEL, RED, TOP, WORDS, Chart, Picture, Series, drawn, histogram, thinned


def opened(png: bytes) -> Image.Image:
    return Image.open(BytesIO(png)).convert("RGB")


def has(sheet: Image.Image, colour: str) -> bool:
    wanted = tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return bool((np.asarray(sheet) == wanted).all(axis=2).any())


def test_panels_stand_side_by_side_and_words_beside_them():
    panels = [Picture("noise", np.eye(40)), Chart("y", "x", (Series(np.arange(3.0), np.arange(3.0)),))]
    sheet = opened(drawn("BiasFrame", panels, [("STDEV 1, at most 10", False)]))
    assert sheet.size == (2 * PANEL[0] + WORDS, TOP + PANEL[1])
    assert not has(sheet, RED)


def test_a_limit_that_was_missed_is_red():
    assert has(opened(drawn("BiasFrame", [], [("STDEV 12, at most 10", True)])), RED)


def test_the_same_figure_is_the_same_bytes():
    image = np.random.default_rng(1).normal(0, 1, (64, 32))
    figures = {drawn("BiasFrame", [Picture("noise", image), histogram("ADU", image)], []) for _ in range(2)}
    assert len(figures) == 1


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8)), np.full((8, 8), np.nan), np.where(np.eye(8) > 0, np.inf, 1.0), np.ones((1, 1), np.uint16)],
    ids=["zero", "no number", "infinite", "one pixel"],
)
def test_an_image_without_contrast_is_drawn_all_the_same(image):
    assert opened(drawn("strange", [Picture("image", image), histogram("ADU", image)], [])).size[0] > WORDS


@pytest.mark.parametrize("value", [0.0, 1e-30, -7.0, 1e12, np.nan])
def test_a_chart_of_one_value_is_drawn(value):
    one = Series(np.array([1.0]), np.array([value]))
    assert opened(drawn("one", [Chart("y", "x", (one,))], []))


def test_whole_numbers_are_counted_in_whole_numbers():
    counts = histogram("ADU", np.random.default_rng(2).integers(-3, 4, (100, 100))).series[0]
    assert set(np.unique(np.diff(counts.x))) <= {0.0, 1.0}
    assert counts.y.sum() / 2 == 10_000


def test_outliers_do_not_squeeze_the_noise():
    image = np.random.default_rng(3).normal(0, 1, (100, 100))
    image[:, 7] = 1e6
    counts = histogram("ADU", image).series[0]
    assert -8 < counts.x.min() < -3
    assert 3 < counts.x.max() < 8


def test_large_images_are_thinned():
    assert thinned(np.zeros((4096, 2048))).shape == (512, 256)
