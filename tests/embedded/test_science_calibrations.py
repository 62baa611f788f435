"""The bars of read noise, bias and hot pixels at quarter size, and on a real night.

Every figure is printed with what noise predicts for it (`pytest -rP` shows those that held, too). Nothing here is
adapted to a seed, a chip or a size: docs/reference/science-tests.md lists the bars.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from bars_bias import BIASES, BiasBars, BiasNight, a_bias_night
from dpu_recipes.testing import Allowance, assert_agrees, assert_noise, bias_noise, clipped_rms, rms
from fakes_instruments import real_data
from fakes_science import Bench, a_bench

#: ADU, known of that night.
READ_NOISE_NICKEL = 5.31


@pytest.fixture(scope="module", params=[1, 2, 3], ids=lambda seed: f"seed{seed}")
def night(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BiasNight:
    """Return a night of three chips of the WFI."""
    chips = ("ccd50", "ccd51", "ccd52")
    return a_bias_night(tmp_path_factory.mktemp("night"), chips=chips, scale=0.25, seed=request.param)


class TestQuarterSize(BiasBars):
    """All bars, on three seeds."""

    allowed = 0.004
    false = 5e-5


@pytest.fixture(scope="module")
def nickel(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Return the ten biases of a real night at the Nickel telescope, ready to be reduced."""
    files = sorted(real_data("nickel_20240513").glob("d10[01]?.fits.fz"))
    assert len(files) == BIASES
    return a_bench(tmp_path_factory.mktemp("nickel"), "NICKEL", "2024-05-12", files)


def test_every_pair_of_real_biases_has_the_known_read_noise(nickel: Bench) -> None:
    names = [frame.file_name for frame in nickel.products("RawBiasFrame")]
    pairs = list(pairwise(names))
    assert len(pairs) == BIASES - 1
    for pair in pairs:
        (product,) = nickel.run("ReadNoise", raw_filenames=list(pair))
        measured = float(product.values["READNOISE"])
        assert_agrees(f"read noise of {' and '.join(pair)}, ADU", measured, READ_NOISE_NICKEL, Allowance(error=0.10))


@pytest.mark.parametrize("clip", [5.0, 3.0])
def test_the_bias_of_a_real_night_meets_its_noise(nickel: Bench, clip: float) -> None:
    # Made again, so that it is the newest: another test measures other pairs, and the newest one sets the clip.
    nickel.run("ReadNoise", force=True)
    names = [frame.file_name for frame in nickel.products("RawBiasFrame")]
    pars = {"BiasFrame.process_params.SIGMA_CLIP": clip}
    (even,) = nickel.run("Bias", overscan=10, raw_filenames=names[0::2], pars=pars)
    (odd,) = nickel.run("Bias", overscan=10, raw_filenames=names[1::2], pars=pars)
    residual = (nickel.pixels(even) - nickel.pixels(odd)) / 2
    print(f"about 0, not clipped: {rms(residual):.4f} ADU; about the mean: {residual.std():.4f} ADU")
    # Method 10 averages ten rows of the strip's 32 columns.
    overscan = READ_NOISE_NICKEL**2 / (32 * 10)
    predicted = bias_noise(READ_NOISE_NICKEL, BIASES // 2, clip=clip, overscan_variance=overscan, means=2)
    # About the mean: by how much the levels differ is no noise of a pixel. At 3 sigma the residual is clipped, as the
    # statistics of real frames are: what flickers is no read noise, and that rejection turns more of it into scatter.
    measured = residual.std() if clip == 5.0 else clipped_rms(residual)
    allowance = Allowance(error=predicted, times=1.01)
    assert_noise(f"(even - odd)/2 of the Nickel biases, rejection at {clip:g} sigma, ADU", float(measured), allowance)
