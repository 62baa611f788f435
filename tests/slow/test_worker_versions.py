"""Many versions of the code on one worker: its pool and its caches stay within their bounds."""

from pathlib import Path

import pytest

from fakes_worker import tree_of, until, working

TASKS, VERSIONS, SLOTS = 1000, 50, 2
MIB = 1024 * 1024

RECIPE = """
def Say(options, archive, scratch, spec):
    print({version})
"""


@pytest.mark.timeout(900)
async def test_a_thousand_tasks_over_fifty_versions_leave_pool_and_caches_within_their_bounds(tmp_path: Path) -> None:
    async with working(tmp_path, slots=SLOTS, code_cache_mib=1) as rig:
        versions = [
            rig.code.put(tree_of(RECIPE.format(version=version)) | {"data.bin": bytes([version]) * (MIB // 10)})
            for version in range(VERSIONS)
        ]
        wanted = [(number // 10) % VERSIONS for number in range(TASKS)]
        leases = [rig.lease("Say", versions[version], user=f"user{version % 3}") for version in wanted]
        rig.scheduler.give(*leases)
        await until(lambda: len(rig.scheduler.reports) == TASKS, f"{TASKS} reports", 800.0)
        assert [report for report in rig.scheduler.reports.values() if report.HasField("failure")] == []
        said = [(await rig.report_of(lease), rig.logs.texts(lease.ref))[1] for lease in leases]
        assert said == [[str(version)] for version in wanted]
        # A guard and a process each: those that wait for tasks, and the spare.
        await until(
            lambda: len(rig.family()) <= 2 * (SLOTS + 1),
            "an end of the processes that are too many",
        )
        code = rig.settings.state / "code"
        assert sum(blob.stat().st_size for blob in (code / "blobs").iterdir()) <= MIB
        assert len(list((code / "trees").iterdir())) <= 10
