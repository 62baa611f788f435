"""ccdproc as an oracle: the same arithmetic on the same frames gives the same to 1e-5."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from dpu_recipes.ccd.layer import Layer
from dpu_recipes.ccd.overscan import Method, correction
from dpu_recipes.ccd.stack import clipped_mean

with warnings.catch_warnings():
    # What ccdproc imports may be about to change; that is not what is tested.
    warnings.simplefilter("ignore")
    ccdproc = pytest.importorskip("ccdproc")

from astropy import units
from astropy.nddata import CCDData

LEVEL, SHAPE, STRIP = 300.0, (120, 160), 40
#: ADU: no residual, a multiple of 1/80, lies on a limit of 3 or 5 of it, where the last digit of a float would decide.
READ_NOISE = 5.003
DATA, OVERSCAN = slice(0, SHAPE[1] - STRIP), slice(SHAPE[1] - STRIP, SHAPE[1])


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    """Return ten biases with a level of each row, and outliers in the data."""
    random = np.random.default_rng(7)
    rows = random.normal(LEVEL, 3.0, (SHAPE[0], 1))
    found = [np.rint(random.normal(rows, READ_NOISE, SHAPE)) for _ in range(10)]
    for frame in found:
        frame[random.integers(0, SHAPE[0], 50), random.integers(0, DATA.stop, 50)] += 1000
    return [frame.astype(np.uint16) for frame in found]


def by_ccdproc(frame: np.ndarray) -> CCDData:
    """Return a frame less the mean of its overscan, row by row, trimmed."""
    ccd = CCDData(frame.astype(float), unit=units.adu)
    ccd = ccdproc.subtract_overscan(ccd, overscan=ccd[:, OVERSCAN], overscan_axis=1, median=False)
    return ccdproc.trim_image(ccd[:, DATA])


def by_us(frame: np.ndarray) -> Layer:
    level = correction(Method.ROWS_OVERSCAN_X, frame[:, OVERSCAN]).level
    return Layer(pixels=frame[:, DATA], level=level)


def test_overscan_and_trim(frames: list[np.ndarray]):
    for frame in frames:
        np.testing.assert_allclose(by_us(frame).rows(0, SHAPE[0]), by_ccdproc(frame).data, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("threshold", [3.0, 5.0])
def test_the_mean_of_what_lies_near_the_median(frames: list[np.ndarray], threshold: float):
    combiner = ccdproc.Combiner([by_ccdproc(frame) for frame in frames])
    combiner.sigma_clipping(
        low_thresh=threshold,
        high_thresh=threshold,
        func=np.ma.median,
        dev_func=lambda values, axis: np.full_like(np.mean(values, axis=axis), READ_NOISE),
    )
    theirs = combiner.average_combine()
    ours = clipped_mean([by_us(frame) for frame in frames], noise=READ_NOISE, threshold=threshold)
    assert ours.count.min() < 10
    np.testing.assert_allclose(ours.mean, theirs.data, rtol=1e-5, atol=1e-4)
