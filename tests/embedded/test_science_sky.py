"""The bars of night-sky flats and fringe frames at quarter size."""

from __future__ import annotations

import pytest

from bars_sky import FRINGING, PLAIN, FringeBars, NightSkyBars, SkyNight, a_sky_night

NIGHTS = [(1, "ccd50")]


def _seed(item: tuple[int, str]) -> str:
    return f"seed{item[0]}"


@pytest.fixture(scope="module", params=NIGHTS, ids=_seed)
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SkyNight:
    """Return a night of one chip of the WFI, through a filter without fringes."""
    seed, chip = request.param
    return a_sky_night(tmp_path_factory.mktemp("night"), chip=chip, scale=0.25, seed=seed, through=PLAIN)


@pytest.fixture(scope="module", params=NIGHTS, ids=_seed)
def fringed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SkyNight:
    """Return a night of one chip of the WFI, through a filter with fringes."""
    seed, chip = request.param
    return a_sky_night(tmp_path_factory.mktemp("night"), chip=chip, scale=0.25, seed=seed, through=FRINGING)


class TestNightSkyAtQuarterSize(NightSkyBars):
    """All bars, on one seed; tests/science has others."""

    @pytest.fixture
    def night(self, plain: SkyNight) -> SkyNight:
        """Return a night without fringes."""
        return plain


class TestFringesAtQuarterSize(FringeBars):
    """All bars, on one seed; tests/science has others."""

    @pytest.fixture
    def night(self, fringed: SkyNight) -> SkyNight:
        """Return a night with fringes."""
        return fringed
