"""The assertions that ship: each of them can fail, and says both numbers when it does."""

from __future__ import annotations

import numpy as np
import pytest

from dpu_recipes.testing import (
    CLIP_COST,
    Allowance,
    assert_agrees,
    assert_at_least,
    assert_at_most,
    assert_noise,
    bias_noise,
    clipped_rms,
    completeness,
    false_fraction,
    half_point,
    read_noise_error,
    rms,
)

HALF_SIGMA_BINS = np.arange(3.0, 8.1, 0.5).tolist()


def test_a_value_within_its_allowance_prints_both_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    allowance = Allowance(error=0.01, times=4, systematic=0.02, because="rounding")
    assert_agrees("read noise, ADU", 5.35, 5.31, allowance)
    assert capsys.readouterr().out == (
        "read noise, ADU: 5.35, truth 5.31, off by +0.04, allowed 4 x 0.01 + 0.02 (rounding) = 0.06\n"
    )


@pytest.mark.parametrize("measured", [5.24, 5.38, float("nan")])
def test_a_value_off_by_more_fails_on_either_side_and_says_so(measured: float) -> None:
    with pytest.raises(AssertionError, match=r"read noise: .*, truth 5.31, off by .*, allowed 4 x 0.01 = 0.04"):
        assert_agrees("read noise", measured, 5.31, Allowance(error=0.01, times=4))


def test_noise_may_be_below_its_prediction_and_not_above() -> None:
    allowance = Allowance(error=1.0, times=1.01)
    assert_noise("residual", 0.5, allowance)
    with pytest.raises(AssertionError, match=r"residual: 1.02, allowed 1.01 x 1 = 1.01"):
        assert_noise("residual", 1.02, allowance)
    with pytest.raises(AssertionError, match=r"residual: nan"):
        assert_noise("residual", float("nan"), allowance)


def test_bounds_hold_or_fail() -> None:
    assert_at_least("found", 0.99, 0.99)
    assert_at_most("false", 5e-5, 5e-5)
    with pytest.raises(AssertionError, match=r"found: 0.9899, at least 0.99"):
        assert_at_least("found", 0.9899, 0.99)
    with pytest.raises(AssertionError, match=r"false: 6e-05, at most 5e-05"):
        assert_at_most("false", 6e-5, 5e-5)


def test_a_systematic_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"systematic 0.02 has no name: say where it comes from with because="):
        Allowance(error=0.01, systematic=0.02)


@pytest.mark.parametrize("error", [-0.01, float("nan"), float("inf")])
def test_an_allowance_that_allows_anything_is_refused(error: float) -> None:
    with pytest.raises(ValueError, match=r"error, times and systematic are finite and not negative"):
        Allowance(error=error)


def test_rms_counts_an_offset() -> None:
    assert rms(np.array([3.0, 3.0, 3.0], dtype=np.float32)) == pytest.approx(3.0)


def test_clipped_rms_leaves_out_outliers_and_the_mean() -> None:
    values = np.random.default_rng(1).normal(7, 2, 100_000)
    values[:50] = 1e4
    assert clipped_rms(values) == pytest.approx(2.0, rel=0.01)


def test_the_predicted_error_of_the_read_noise_is_the_scatter_of_repeated_pairs() -> None:
    pairs = np.random.default_rng(2).normal(0, 5, (2000, 2, 500))
    measured = np.sqrt(np.mean((pairs[:, 0] - pairs[:, 1]) ** 2, axis=1) / 2)
    assert measured.std() == pytest.approx(read_noise_error(5.0, 500), rel=0.05)


@pytest.mark.parametrize(("frames", "clip"), sorted(CLIP_COST))
def test_rejection_costs_what_the_table_says(frames: int, clip: float) -> None:
    values = np.random.default_rng(3).standard_normal((frames, 100_000))
    kept = np.abs(values - np.median(values, axis=0)) <= clip
    mean = np.sum(values, axis=0, where=kept) / kept.sum(axis=0)
    # The table's figures are rounded, and a median is not the only robust centre: within half a per cent.
    assert mean.std() * np.sqrt(frames) == pytest.approx(CLIP_COST[frames, clip], abs=0.005)


def test_bias_noise_counts_the_overscan_and_the_means() -> None:
    assert bias_noise(3.0, 10, clip=5.0) == pytest.approx(3 / np.sqrt(10))
    assert bias_noise(3.0, 10, clip=5.0, overscan_variance=16.0) == pytest.approx(5 / np.sqrt(10))
    assert bias_noise(3.0, 5, clip=3.0, means=2) == pytest.approx(1.025 * 3 / np.sqrt(10))


def test_bias_noise_of_an_unknown_clip_is_refused() -> None:
    with pytest.raises(KeyError, match=r"\(7, 3.0\)"):
        bias_noise(3.0, 7)


def test_completeness_and_false_fraction_count_pixels() -> None:
    amplitudes = np.array([0.0, 0.0, 0.0, 0.0, 5.0, 8.0, 9.0, 10.0])
    found = np.array([True, False, False, False, True, False, True, True])
    assert completeness(found, amplitudes, 8.0) == pytest.approx(2 / 3)
    assert false_fraction(found, amplitudes) == pytest.approx(1 / 8)


def test_completeness_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no pixel has an amplitude of at least 8: there is nothing to find"):
        completeness(np.zeros(3, bool), np.ones(3), 8.0)


@pytest.mark.parametrize("threshold", [4.6, 5.0, 5.6])
def test_the_half_point_is_the_threshold_within_its_error(threshold: float) -> None:
    generator = np.random.default_rng(4)
    points, errors = [], []
    for _ in range(100):
        amplitudes = 3 * (100 / 3) ** generator.random(1000)
        found = amplitudes + generator.standard_normal(1000) > threshold
        point, error = half_point(found, amplitudes, HALF_SIGMA_BINS)
        points.append(point)
        errors.append(error)
    # Below the first bin a tail of the curve is cut off: 0.02 at 4.6.
    assert np.mean(points) == pytest.approx(threshold, abs=0.02 + 4 * np.std(points) / 10)
    # Within a bin the chance to be found grows, which the error leaves out: it is on the safe side.
    assert 0.95 * np.std(points) < np.mean(errors) < 1.5 * np.std(points)


def test_a_half_point_without_pixels_in_a_bin_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no pixel has an amplitude of 3.5 ... 4: widen the bins"):
        half_point(np.array([False, True]), np.array([3.1, 4.1]), [3.0, 3.5, 4.0])
