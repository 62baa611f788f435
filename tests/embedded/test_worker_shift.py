"""Short tasks that one process is given together: each is still its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dpu_api.v1 import dispatch_pb2, job_pb2
from fakes_worker import Rig, until, working

Category = job_pb2.FailureCategory

RECIPES = """
def Short(options, archive, scratch, spec):
    assert list(scratch.iterdir()) == []
    print("printed by", spec.label, "in", os.getpid())

def Raw(options, archive, scratch, spec):
    os.write(1, b"raw of " + spec.label.encode())

def Messy(options, archive, scratch, spec):
    (scratch / "left").write_text("behind")
    print("messy in", os.getpid())

def Spoil(options, archive, scratch, spec):
    os.environ["SPOILT"] = "1"

def Die(options, archive, scratch, spec):
    os._exit(3)

def Doze(options, archive, scratch, spec):
    time.sleep(0.02)

def Last(options, archive, scratch, spec):
    while not os.path.exists(options["gate"]):
        time.sleep(0.01)
"""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with working(tmp_path) as rig:
        yield rig


async def together(rig: Rig, *leases: dispatch_pb2.TaskLease) -> list[dispatch_pb2.TaskReport]:
    """Have tasks run together, by a worker that knows that tasks are short; return their reports in order."""
    await warm(rig, leases[0].code_digest)
    rig.scheduler.give(*leases)
    return [await rig.report_of(lease) for lease in leases]


async def warm(rig: Rig, digest: str) -> None:
    for _ in range(12):
        await rig.done(named(rig, "Short", digest))


def named(rig: Rig, recipe: str, digest: str, **options: str) -> dispatch_pb2.TaskLease:
    return rig.lease(recipe, digest, options=options, spec=job_pb2.TaskSpec(label=f"ccd{rig.made}"))


def failures(reports: list[dispatch_pb2.TaskReport]) -> list[int]:
    return [report.failure.category for report in reports]


async def test_each_task_has_its_own_lines_also_those_of_c_code(rig: Rig) -> None:
    digest = rig.ship(RECIPES)
    leases = [named(rig, recipe, digest) for recipe in ("Short", "Raw", "Raw", "Short", "Raw", "Short")]
    assert failures(await together(rig, *leases)) == [0] * 6
    shown = [rig.logs.texts(lease.ref)[0].partition(" in ")[0] for lease in leases]
    assert shown == [f"{'raw of' if lease.recipe == 'Raw' else 'printed by'} {lease.spec.label}" for lease in leases]


async def test_ends_that_are_heard_together_have_each_its_own_time(rig: Rig) -> None:
    digest = rig.ship(RECIPES)
    leases = [named(rig, recipe, digest) for recipe in ("Short", "Short", "Doze", "Short", "Short")]
    reports = await together(rig, *leases)
    assert failures(reports) == [0] * 5
    assert reports[2].run_s >= 0.02
    assert all(report.run_s > 0 for report in reports)


async def test_the_next_task_finds_an_empty_folder(rig: Rig) -> None:
    digest = rig.ship(RECIPES)
    leases = [named(rig, recipe, digest) for recipe in ("Messy", "Short", "Messy", "Short")]
    assert failures(await together(rig, *leases)) == [0] * 4
    assert len({rig.logs.texts(lease.ref)[0].rpartition(" ")[2] for lease in leases}) == 1


async def test_behind_one_that_spoils_its_process_the_others_run_in_another(rig: Rig) -> None:
    digest = rig.ship(RECIPES)
    leases = [named(rig, recipe, digest) for recipe in ("Short", "Spoil", "Short", "Short")]
    assert failures(await together(rig, *leases)) == [0] * 4
    first, after, last = (rig.logs.texts(leases[number].ref)[0].rpartition(" ")[2] for number in (0, 2, 3))
    assert first != after
    assert after == last


async def test_only_the_one_that_kills_its_process_has_crashed(rig: Rig) -> None:
    digest = rig.ship(RECIPES)
    leases = [named(rig, recipe, digest) for recipe in ("Short", "Die", "Short", "Die", "Short")]
    crash = Category.FAILURE_CATEGORY_CRASH
    assert failures(await together(rig, *leases)) == [0, crash, 0, crash, 0]


async def test_a_suspect_runs_in_a_process_that_has_run_nothing_and_runs_nothing_else(rig: Rig) -> None:
    digest = rig.ship(RECIPES)
    leases = [named(rig, "Short", digest) for _ in range(4)]
    leases[1].alone = leases[2].alone = True
    reports = await together(rig, *leases)
    assert failures(reports) == [0] * 4
    assert [report.alone for report in reports] == [False, True, True, False]
    processes = [rig.logs.texts(lease.ref)[0].rpartition(" ")[2] for lease in leases]
    assert len(set(processes[:3])) == 3


@pytest.mark.parametrize("why", ["cancel", "stale"])
async def test_what_waits_behind_a_long_task_can_still_be_called_off(rig: Rig, why: str) -> None:
    digest, gate = rig.ship(RECIPES), rig.settings.state / "frames" / "gate"
    await warm(rig, digest)
    long, behind = (named(rig, recipe, digest, gate=str(gate)) for recipe in ("Last", "Short"))
    rig.scheduler.give(long, behind)
    await until(lambda: any(len(call.held) == 2 for call in rig.scheduler.calls), "both of them are held")
    if why == "cancel":
        rig.scheduler.tell(cancel=(behind.ref,))
        report = await rig.report_of(behind)
        assert report.failure.category == Category.FAILURE_CATEGORY_CANCELLED
    else:
        rig.scheduler.tell(stale=(behind.ref,))
        held = [long.ref.task]
        await until(lambda: [each.ref.task for each in rig.scheduler.calls[-1].held] == held, "it is dropped")
    gate.touch()
    assert failures([await rig.report_of(long)]) == [0]
    assert not any("printed by" in text for text in rig.logs.texts(behind.ref))


async def test_a_long_task_does_not_hold_up_those_that_were_given_with_it(tmp_path: Path) -> None:
    async with working(tmp_path, slots=2) as rig:
        digest, gate = rig.ship(RECIPES), rig.settings.state / "frames" / "gate"
        await warm(rig, digest)
        long, *short = (named(rig, recipe, digest, gate=str(gate)) for recipe in ("Last", *["Short"] * 8))
        rig.scheduler.give(long, *short)
        assert failures([await rig.report_of(lease) for lease in short]) == [0] * 8
        gate.touch()
        assert failures([await rig.report_of(long)]) == [0]
