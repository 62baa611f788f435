"""The bars of gain and linearity at quarter size, and on real flats.

Every figure is printed with what noise predicts for it (`pytest -rP` shows those that held, too). Nothing here is
adapted to a seed, a chip or a size: docs/reference/science-tests.md lists the bars.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits

from bars_gain import GainBars, GainNight, a_gain_night
from dpu_recipes.ccd.layer import Layer
from dpu_recipes.ccd.pairs import Clip, Exposed, level, measured
from dpu_recipes.ccd.photon_transfer import fitted
from dpu_recipes.ccd.stack import clipped_mean
from dpu_recipes.testing import Allowance, assert_agrees
from fakes_instruments import real_data

if TYPE_CHECKING:
    from pathlib import Path

#: ADU and e-/ADU, known of that camera.
READ_NOISE_NICKEL, GAIN_NICKEL = 5.31, 1.79
TWILIGHTS = (1035, 1036, 1037)
#: The central 400 x 400 pixels of 1024 x 1024.
CENTRE = slice(312, 712)


@pytest.fixture(scope="module", params=[(1, "ccd50"), (2, "ccd53"), (3, "ccd56")], ids=lambda item: f"seed{item[0]}")
def night(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GainNight:
    """Return a night of one chip of the WFI."""
    seed, chip = request.param
    return a_gain_night(tmp_path_factory.mktemp("night"), chip=chip, scale=0.25, seed=seed)


class TestQuarterSize(GainBars):
    """All bars, on three seeds."""

    allowed = 0.004


@pytest.fixture(scope="module")
def twilights() -> dict[int, Exposed]:
    """Return the centre of three real twilight flats of the Nickel telescope, and what is taken off them."""
    folder = real_data("nickel_20240513")
    biases = [central(folder / f"d{number}.fits.fz") for number in range(1001, 1011)]
    bias = clipped_mean(biases, noise=READ_NOISE_NICKEL, threshold=5.0).mean
    return {
        number: Exposed(
            layer=central(folder / f"d{number}.fits.fz"), bias=bias, full=65_535 - 1_200, noise=READ_NOISE_NICKEL
        )
        for number in TWILIGHTS
    }


def central(file: Path) -> Layer:
    """Return the centre of a frame, no overscan subtracted."""
    data = fits.getdata(file).astype(np.float32)
    return Layer(pixels=data[CENTRE, CENTRE], level=np.zeros((1, 1), np.float32))


@pytest.mark.parametrize("numbers", list(combinations(TWILIGHTS, 2)), ids=str)
def test_a_pair_of_real_twilights_has_the_known_gain(twilights: dict[int, Exposed], numbers: tuple[int, int]) -> None:
    clip = Clip()
    first, second = (twilights[number] for number in numbers)
    ratio = level(first, clip)[0] / level(second, clip)[0]
    # Unlike levels, 31,600 and 39,100 ADU, are no pair to the recipe; the formula holds for them too.
    found = fitted([measured(first, second, ratio=ratio, clip=clip)])
    print(f"levels 1 : {1 / ratio:.3f}, noise predicts an error of {found.error:.4f}")
    assert_agrees(f"gain by {numbers}, e-/ADU", found.gain, GAIN_NICKEL, Allowance(error=0.03))
