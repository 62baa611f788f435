"""The bars of night-sky flats and fringe frames on further seeds, and on a whole CCD."""

from __future__ import annotations

import pytest

from bars_sky import FRINGING, PLAIN, FringeBars, NightSkyBars, SkyNight, a_sky_night

pytestmark = pytest.mark.timeout(900)

NIGHTS = [(2, "ccd53", 0.25), (3, "ccd56", 0.25), (4, "ccd51", 1.0), (5, "ccd55", 1.0)]


def _name(item: tuple[int, str, float]) -> str:
    return f"seed{item[0]}-scale{item[2]:g}"


@pytest.fixture(scope="module", params=NIGHTS, ids=_name)
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SkyNight:
    """Return a night of one chip of the WFI, through a filter without fringes."""
    seed, chip, scale = request.param
    return a_sky_night(tmp_path_factory.mktemp("night"), chip=chip, scale=scale, seed=seed, through=PLAIN)


@pytest.fixture(scope="module", params=NIGHTS, ids=_name)
def fringed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SkyNight:
    """Return a night of one chip of the WFI, through a filter with fringes."""
    seed, chip, scale = request.param
    return a_sky_night(tmp_path_factory.mktemp("night"), chip=chip, scale=scale, seed=seed, through=FRINGING)


class TestNightSky(NightSkyBars):
    """All bars."""

    @pytest.fixture
    def night(self, plain: SkyNight) -> SkyNight:
        """Return a night without fringes."""
        return plain


class TestFringes(FringeBars):
    """All bars."""

    @pytest.fixture
    def night(self, fringed: SkyNight) -> SkyNight:
        """Return a night with fringes."""
        return fringed
