"""A scheduler whose journal is older than archive and logs gives no identifier that they know."""

import shutil

import pytest

from dpu.errors import InternalError
from fakes_house import House, fails, specs, submission


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


async def submitted(callers):
    return (await callers.person().SubmitJob(submission(tasks=specs("ccd50")))).job.id


@pytest.mark.parametrize(("archive", "logs"), [(41, 7), (7, 41)])
async def test_the_first_identifier_is_behind_all_that_others_know(house, archive, logs):
    house.archive.highest, house.logs.highest = archive, logs
    async with house.open() as callers:
        assert [await submitted(callers), await submitted(callers)] == [42, 43]


async def test_a_journal_that_knows_more_goes_on_with_its_own(house):
    async with house.open() as callers:
        assert [await submitted(callers), await submitted(callers)] == [1, 2]
    house.archive.highest = 1
    async with house.open() as callers:
        assert await submitted(callers) == 3


async def test_a_journal_from_a_backup_goes_on_behind_what_the_archive_knows(house):
    async with house.open() as callers:
        assert await submitted(callers) == 1
    journal = house.folder / "state"
    shutil.copytree(journal, house.folder / "backup")
    async with house.open() as callers:
        assert [await submitted(callers), await submitted(callers)] == [2, 3]
    shutil.rmtree(journal)
    shutil.copytree(house.folder / "backup", journal)
    house.archive.highest = 3
    async with house.open() as callers:
        assert await submitted(callers) == 4
    # By then its own journal knows.
    house.archive.highest = 0
    async with house.open() as callers:
        assert await submitted(callers) == 5


async def test_without_their_word_no_job_is_taken(house):
    class Broken(type(house.archive)):
        async def GetHighestJob(self, request, context):  # noqa: N802, ARG002 (gRPC's names)
            raise InternalError("the catalogue is broken")

    house.archive = Broken()
    async with house.open() as callers:
        await fails(callers.person().SubmitJob(submission()), InternalError, "the catalogue is broken")
