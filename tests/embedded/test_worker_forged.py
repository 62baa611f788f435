"""Whatever a task's process says of itself, its worker goes on and tells an end that makes sense."""

import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dpu_api.v1 import job_pb2
from fakes_worker import Rig, working

RECIPES = """
def Well(options, archive, scratch, spec):
    print("all is well")

def Forge(options, archive, scratch, spec):
    end = {"status": "ended", "leftovers": [], "printed": False, "cpu_s": 0.1, "peak_mib": 1, "ended": time.monotonic()}
    archive._channel.send({"end": end | eval(options["said"], {"inf": float("inf"), "nan": float("nan")})})
    time.sleep(60)

def Deep(options, archive, scratch, spec):
    arguments = 1
    for _ in range(options["levels"]):
        arguments = [arguments]
    return [TaskSpec(label="ccd50", arguments={"a": arguments})]
"""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with working(tmp_path) as rig:
        yield rig


FORGED = (
    "{'peak_mib': 1e15}",
    "{'peak_mib': inf}",
    "{'peak_mib': -5}",
    "{'peak_mib': 'much'}",
    "{'cpu_s': nan}",
    "{'cpu_s': 1e400}",
    "{'cpu_s': -1}",
    "{'cpu_s': None}",
    "{'ended': nan}",
    "{'ended': inf}",
    "{'ended': []}",
    "{'leftovers': 7}",
)


@pytest.mark.parametrize("forged", FORGED)
async def test_an_end_that_makes_no_sense_is_a_crash_and_no_other_task_suffers(rig: Rig, forged: str) -> None:
    digest = rig.ship(RECIPES)
    report = await rig.done(rig.lease("Forge", digest, options={"said": forged}))
    assert report.failure.category == job_pb2.FailureCategory.FAILURE_CATEGORY_CRASH
    assert any("the task's process was killed" in text for text in rig.logs.texts(report.ref))
    assert all(math.isfinite(number) and number >= 0 for number in (report.run_s, report.cpu_s))
    assert (await rig.done(rig.lease("Well", digest))).failure == job_pb2.Failure()
    assert {ref.task for ref in rig.scheduler.calls[-1].held} == set()


@pytest.mark.parametrize("levels", [20, 47, 200])
async def test_a_plan_that_nobody_could_read_is_the_recipes_failure(rig: Rig, levels: int) -> None:
    digest = rig.ship(RECIPES)
    report = await rig.done(rig.lease("Deep", digest, plan=True, options={"levels": levels}))
    assert report.failure.category == job_pb2.FailureCategory.FAILURE_CATEGORY_RECIPE
    assert "deeper than 16 levels" in report.failure.message
    assert (await rig.done(rig.lease("Well", digest))).failure == job_pb2.Failure()
