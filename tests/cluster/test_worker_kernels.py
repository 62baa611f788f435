"""Compiled kernels in real task processes: kept over versions of the code, and never stale."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes_worker import FORMS, Rig, tree_of, working_as

RECIPE = """
def Count(options, archive, scratch, spec):
    from dpu_recipes.kernel import counted
    print({version}, counted(1), len(counted.stats.cache_hits), len(counted.stats.cache_misses))
"""
KERNEL = b"""
import numba
from dpu_recipes.constants import MORE

@numba.njit(cache=True)
def counted(number):
    return number + MORE
"""


# As root where that can be: the folder must be its user's.
@pytest.fixture(params=FORMS[-1:])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    async with working_as(request.param, tmp_path) as running:
        yield running


def version(rig: Rig, number: int, more: int) -> str:
    """Ship a version of the recipe, whose kernel adds `more`."""
    kernel = {"dpu_recipes/kernel.py": KERNEL, "dpu_recipes/constants.py": f"MORE = {more}\n".encode()}
    return rig.code.put(tree_of(RECIPE.format(version=number)) | kernel)


@pytest.mark.timeout(240)
async def test_a_kernel_is_compiled_anew_only_when_something_changed_that_it_is_made_of(rig: Rig) -> None:
    said = []
    for number, more in ((1, 10), (2, 10), (3, 20)):
        lease = rig.lease("Count", version(rig, number, more), time_s=200.0, memory_mib=1024)
        rig.scheduler.give(lease)
        report = await rig.report_of(lease, 220.0)
        assert not report.HasField("failure"), report
        said += rig.logs.texts(lease.ref)
    # Version, result, kernels that were there, kernels that were compiled.
    assert said == ["1 11 0 1", "2 11 1 0", "3 21 0 1"]
