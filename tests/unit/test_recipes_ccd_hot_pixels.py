import numpy as np
import pytest

from dpu_recipes.ccd.background import smooth_background
from dpu_recipes.ccd.hot_pixels import hot_pixels

SHAPE = (1024, 512)
NOISE = 1.6
SEEDS = [1, 2, 3]


def gradient() -> np.ndarray:
    """A smooth structure of several ADU: an amplifier's glow in a corner and a slope."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    glow = 20.0 * np.exp(-((y / 200) ** 2 + (x / 150) ** 2))
    return (0.004 * y + glow).astype(np.float32)


def truth(rng: np.random.Generator) -> np.ndarray:
    """Amplitudes, in sigma of the noise: log-uniform from 3 to 100; pixels, whole and partial columns."""
    amplitude = np.zeros(SHAPE)
    pixels = rng.choice(amplitude.size, 2000, replace=False)
    amplitude.flat[pixels] = np.exp(rng.uniform(np.log(3), np.log(100), pixels.size))
    for column in rng.choice(SHAPE[1], 6, replace=False):
        start = int(rng.choice([0, rng.integers(SHAPE[0] - 100)]))
        amplitude[start:, column] = np.exp(rng.uniform(np.log(3), np.log(100)))
    return amplitude


def found_in(amplitude: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    bias = gradient() + NOISE * amplitude + rng.normal(0.0, NOISE, SHAPE)
    return hot_pixels(bias.astype(np.float32), threshold=5.0, iterations=5).hot


@pytest.mark.parametrize("seed", SEEDS)
def test_bright_ones_are_found_and_good_ones_left_alone(seed: int):
    rng = np.random.default_rng(seed)
    amplitude = truth(rng)
    found = found_in(amplitude, rng)
    complete = found[amplitude > 8].mean()
    false = found[amplitude == 0].mean()
    assert complete >= 0.99, f"complete beyond 8 sigma: {complete:.4f}, wanted 0.99"
    assert false <= 5e-5, f"false: {false:.2e} of pixels, wanted 5e-5"


@pytest.mark.parametrize("seed", SEEDS)
def test_half_of_those_at_the_threshold_are_found(seed: int):
    rng = np.random.default_rng(seed)
    amplitude = np.zeros(SHAPE)
    pixels = rng.choice(amplitude.size, 8000, replace=False)
    amplitude.flat[pixels] = rng.uniform(3.0, 7.0, pixels.size)
    found = found_in(amplitude, rng)
    edges = np.arange(3.0, 7.01, 0.5)
    rates = [found[(amplitude >= low) & (amplitude < low + 0.5) & (amplitude > 0)].mean() for low in edges[:-1]]
    half = float(np.interp(0.5, rates, edges[:-1] + 0.25))
    assert half == pytest.approx(5.0, abs=0.5), f"half-point at {half:.2f} sigma"


@pytest.mark.parametrize("width", [1, 5, 20])
def test_the_background_does_not_eat_whole_columns(width: int):
    rng = np.random.default_rng(4)
    amplitude = np.zeros(SHAPE)
    amplitude[:, 200 : 200 + width] = 12.0
    found = found_in(amplitude, rng)
    assert found[amplitude > 0].mean() > 0.999
    assert found[amplitude == 0].mean() < 5e-5


def test_dark_pixels_are_found_too():
    bias = np.random.default_rng(5).normal(0.0, NOISE, SHAPE).astype(np.float32)
    bias[30, 40] -= 30 * NOISE
    assert hot_pixels(bias, threshold=5.0, iterations=5).hot[30, 40]


def test_an_added_constant_changes_nothing():
    bias = (gradient() + np.random.default_rng(6).normal(0.0, NOISE, SHAPE)).astype(np.float32)
    bias[100:110, 100] += 50.0
    one = hot_pixels(bias, threshold=5.0, iterations=5).hot
    np.testing.assert_array_equal(one, hot_pixels(bias + np.float32(512.0), threshold=5.0, iterations=5).hot)


def test_sigma_is_the_noise_of_the_good_pixels():
    rng = np.random.default_rng(7)
    bias = gradient() + NOISE * truth(rng) + rng.normal(0.0, NOISE, SHAPE)
    assert hot_pixels(bias.astype(np.float32), threshold=5.0, iterations=5).sigma == pytest.approx(NOISE, rel=0.02)


def test_the_background_follows_what_is_smooth():
    image = gradient() + np.random.default_rng(8).normal(0.0, NOISE, SHAPE).astype(np.float32)
    residual = smooth_background(image) - gradient()
    # The mode of 64 x 64 pixels is good to about 3 sigma / 64; nearer to the corner the glow bends within a mesh.
    assert np.abs(residual[500:]).max() < 0.3


def test_a_frame_smaller_than_a_mesh_has_a_background():
    assert smooth_background(np.full((20, 30), 7.0, np.float32)) == pytest.approx(7.0)


def test_big_endian_pixels_are_taken():
    image = np.full((80, 80), 3.0, ">f4")
    assert smooth_background(image) == pytest.approx(3.0)
