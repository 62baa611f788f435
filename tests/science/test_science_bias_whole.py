"""The bars of read noise, bias and hot pixels for a whole CCD: slow, beside the other tests."""

from __future__ import annotations

import pytest

from bars_bias import BiasBars, BiasNight, a_bias_night

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", params=[(4, "ccd51"), (5, "ccd55")], ids=lambda item: f"seed{item[0]}")
def night(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BiasNight:
    """Return a night of one chip of the WFI."""
    seed, chip = request.param
    return a_bias_night(tmp_path_factory.mktemp("night"), chips=(chip,), scale=1.0, seed=seed)


class TestWholeSize(BiasBars):
    """All bars, on two seeds."""

    allowed = 0.001
    false = 1e-5
