"""The bars of gain and linearity for a whole CCD: slow, beside the other tests."""

from __future__ import annotations

import pytest

from bars_gain import GainBars, GainNight, a_gain_night

#: A night of whole frames is drawn in half a minute, where nobody else works.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", params=[(4, "ccd51"), (5, "ccd55")], ids=lambda item: f"seed{item[0]}")
def night(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GainNight:
    """Return a night of one chip of the WFI."""
    seed, chip = request.param
    return a_gain_night(tmp_path_factory.mktemp("night"), chip=chip, scale=1.0, seed=seed)


class TestWholeSize(GainBars):
    """All bars, on two seeds."""

    allowed = 0.002
