import numpy as np
import pytest

from dpu_recipes.ccd.pairs import Pair
from dpu_recipes.ccd.photon_transfer import fitted

GAIN = 2.0
SIGNALS = np.linspace(2_000.0, 60_000.0, 9)


def pair(signal: float, *, quadratic: float = 0.0, off: float = 0.0, pixels: int = 100_000) -> Pair:
    """Return a pair on the curve, `off` of its errors beside it."""
    variance = signal / GAIN + quadratic * signal**2
    error = variance * float(np.sqrt(2 / pixels))
    return Pair(signal=signal, variance=variance + off * error, error=error, count=pixels, rejected=0)


def test_a_curve_gives_its_gain_and_its_quadratic_term():
    found = fitted([pair(signal, quadratic=-4e-7) for signal in SIGNALS])
    assert (found.gain, found.quadratic, found.count) == pytest.approx((GAIN, -4e-7, 9))
    assert found.chi2 == pytest.approx(0, abs=1e-9)


def test_one_pair_is_enough_for_a_gain():
    found = fitted([pair(20_000.0)])
    assert (found.gain, found.quadratic, found.chi2) == pytest.approx((GAIN, 0, 0))
    assert found.error == pytest.approx(GAIN * np.sqrt(2 / 100_000))


def test_levels_near_each_other_say_nothing_of_a_curve():
    found = fitted([pair(signal) for signal in (20_000.0, 25_000.0, 30_000.0, 35_000.0)])
    assert (found.gain, found.quadratic) == pytest.approx((GAIN, 0))


def test_the_error_is_how_far_gains_scatter():
    random = np.random.default_rng(5)
    found = [fitted([pair(signal, off=random.normal()) for signal in SIGNALS]) for _ in range(400)]
    pulls = [(each.gain - GAIN) / each.error for each in found]
    # Where the pairs scatter by more than their errors, the error of the gain is widened: pulls are a little below 1.
    assert np.std(pulls) == pytest.approx(0.93, abs=0.08)
    assert np.mean([each.chi2 for each in found]) == pytest.approx(1, abs=0.1)


def test_pairs_that_scatter_by_more_than_their_errors_widen_that_of_the_gain():
    quiet = fitted([pair(signal) for signal in SIGNALS])
    loud = fitted([pair(signal, off=(-1) ** number * 5.0) for number, signal in enumerate(SIGNALS)])
    assert loud.chi2 > 25
    assert loud.error == pytest.approx(quiet.error * np.sqrt(loud.chi2), rel=0.02)


def test_a_variance_that_does_not_grow_with_the_light_is_an_error():
    sinking = [pair(signal, quadratic=0.0, off=-300.0) for signal in SIGNALS]
    with pytest.raises(ValueError, match="the variance does not grow with the light: -.* ADU an ADU"):
        fitted(sinking)
