from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dpu_recipes.ccd.layer import Layer
from dpu_recipes.ccd.pairs import Clip, Exposed, Pair, level, measured
from dpu_recipes.testing import Allowance, assert_agrees

GAIN, READ_NOISE, SHAPE = 1.6, 5.0, (256, 400)
BIAS = np.random.default_rng(1).normal(40.0, 3.0, SHAPE).astype(np.float32)
RESPONSE = np.random.default_rng(2).normal(1.0, 0.02, SHAPE) * np.linspace(0.9, 1.1, SHAPE[1])


def flat(light: float, seed: int = 3, **changes: Any) -> Exposed:
    """Return a flat above an overscan level of 300 ADU."""
    random = np.random.default_rng(seed)
    adu = random.poisson(light * GAIN * RESPONSE) / GAIN + random.normal(0, READ_NOISE, SHAPE) + BIAS + 300
    layer = Layer(pixels=np.rint(adu).astype(np.uint16), level=np.full((SHAPE[0], 1), 300.0, np.float32))
    noise = float(np.hypot(READ_NOISE, 12**-0.5))
    return replace(Exposed(layer=layer, bias=BIAS, full=60_000.0, noise=noise), **changes)


def pair(first: Exposed, second: Exposed) -> Pair:
    clip = Clip()
    return measured(first, second, ratio=level(first, clip)[0] / level(second, clip)[0], clip=clip)


def assert_gives_the_gain(found: Pair) -> None:
    allowance = Allowance(error=found.error / found.signal, times=4)
    assert_agrees("V / S", found.variance / found.signal, 1 / GAIN, allowance)


@pytest.mark.parametrize(("one", "other"), [(20_000.0, 20_000.0), (20_000.0, 20_700.0), (300.0, 300.0), (9e3, 6e3)])
def test_variance_over_signal_is_the_inverse_of_the_gain(one: float, other: float):
    found = pair(flat(one), flat(other, seed=4))
    assert_agrees(
        "V / S", found.variance / found.signal, 1 / GAIN, Allowance(error=found.error / found.signal, times=4)
    )
    assert found.error == pytest.approx(np.sqrt(2 / found.count) * found.signal / GAIN, rel=0.3)


def test_the_signal_weighs_the_second_by_the_square_of_the_ratio():
    found = pair(flat(9_000.0), flat(6_000.0, seed=4))
    assert found.signal == pytest.approx((9_000 + 1.5**2 * 6_000) * RESPONSE.mean(), rel=2e-3)


def test_cosmic_rays_are_left_out():
    first, second = flat(5_000.0), flat(5_000.0, seed=4)
    quiet = pair(first, second)
    first.layer.pixels[10:60:5, 20] += 3_000
    second.layer.pixels[100, 30:90:3] += 2_000
    hit = pair(first, second)
    assert hit.rejected == quiet.rejected + 10 + 20
    assert hit.variance == pytest.approx(quiet.variance, rel=1e-3)


def test_full_pixels_tell_of_no_noise_and_are_left_out():
    first, second = flat(5_000.0, full=8_000.0), flat(5_000.0, seed=4, full=8_000.0)
    for image in (first, second):
        image.layer.pixels[:, 7] = 60_000
    assert level(first, Clip())[1] == pytest.approx(1 / SHAPE[1])
    found = pair(first, second)
    assert found.rejected >= SHAPE[0]
    assert_agrees(
        "V / S", found.variance / found.signal, 1 / GAIN, Allowance(error=found.error / found.signal, times=4)
    )


def test_the_order_of_the_two_does_not_change_the_gain():
    one, other = flat(9_000.0), flat(6_000.0, seed=4)
    there, back = pair(one, other), pair(other, one)
    assert there.variance / there.signal == pytest.approx(back.variance / back.signal, rel=1e-4)


def test_a_level_leaves_out_what_responds_unlike_the_rest():
    image = flat(5_000.0)
    quiet, _ = level(image, Clip())
    image.layer.pixels[:, 200] //= 2
    assert level(image, Clip())[0] == pytest.approx(quiet, rel=2e-4)


def test_no_pixel_left_is_an_error():
    first, second = flat(5_000.0, full=100.0), flat(5_000.0, seed=4)
    with pytest.raises(ValueError, match="every pixel is an outlier or full"):
        measured(first, second, ratio=1.0, clip=Clip())
