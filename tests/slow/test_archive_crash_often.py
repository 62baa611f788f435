"""The archive killed at 200 random moments of ingest, commit and start, on both databases."""

import pytest

from fakes_archive_crash import killed

ROUNDS = 100


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request):
    return "" if request.param == "sqlite" else request.getfixturevalue("postgres").database()


@pytest.mark.timeout(60 * ROUNDS)
async def test_killed_a_hundred_times_it_has_all_it_acknowledged_and_nothing_by_halves(tmp_path, database):
    campaign = await killed(tmp_path, database, ROUNDS)
    assert len(campaign.ingested) >= ROUNDS / 2
    assert len(campaign.published) >= ROUNDS / 4
    assert campaign.frozen >= ROUNDS / 4
    assert campaign.thawed > 0
