"""The bars of the flats on a whole CCD: minutes a seed, so they stand apart from the other tests."""

from __future__ import annotations

import pytest

from bars_flats import FlatBars, FlatNight, a_flat_night


@pytest.fixture(scope="module", params=[(1, "ccd50"), (2, "ccd53"), (3, "ccd56")], ids=lambda item: f"seed{item[0]}")
def night(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FlatNight:
    """Return a night of one whole chip of the WFI."""
    seed, chip = request.param
    return a_flat_night(tmp_path_factory.mktemp("night"), chip=chip, scale=1.0, seed=seed)


@pytest.mark.timeout(1800)
class TestFullSize(FlatBars):
    """All bars, on three seeds."""
