"""Memory bounded by the kernel's own control groups, where this machine lets the tests make one."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from dpu_api.v1.job_pb2 import FailureCategory
from dpud.hosting.settings import BadSetting
from dpud.worker import sandbox
from dpud.worker.groups import Groups
from dpud.worker.main import run
from fakes_worker import surroundings, working

RECIPES = """
def eat(mib):
    pages = bytearray(mib << 20)
    pages[::4096] = b"x" * len(pages[::4096])
    return pages

def Together(options, archive, scratch, spec):
    for _ in range(6):
        if os.fork() == 0:
            kept = eat(100)
            time.sleep(60)
            os._exit(0)
    if os.wait()[1]:
        raise RuntimeError("a child was killed")

def Well(options, archive, scratch, spec):
    kept = eat(100)
    (own,) = [line for line in open("/proc/self/cgroup") if "task-" in line]
    print(Path(own.strip()).name)
"""


def writable() -> tuple[Path | None, str]:
    """Return the group that this process lives in, if a group can be made below it; else why not."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for root in ("/sys/fs/cgroup/memory",) if controllers == "memory" else ("/sys/fs/cgroup",):
            place = Path(root + path)
            known = (place / "memory.limit_in_bytes", place / "cgroup.controllers")
            if controllers in {"memory", ""} and any(map(Path.exists, known)):
                made = place / f"dpu-test-{uuid4().hex}"
                with suppress(OSError):
                    made.mkdir()
                    return made, ""
    return None, "this machine lets the tests make no control group of memory"


@pytest.fixture
def group() -> Iterator[Path]:
    place, why = writable()
    if place is None:
        pytest.skip(why)
    try:
        try:
            Groups(place)
        except OSError as error:
            pytest.skip(f"{place}: {error}")
        yield place
    finally:
        place.rmdir()


def tasks(group: Path) -> list[str]:
    return [place.name for place in group.glob("task-*")]


async def test_what_a_task_takes_with_its_children_is_bounded_by_the_kernel_at_once(
    tmp_path: Path, group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The watchdog looks away: each child alone is within its limits.
    monkeypatch.setattr(sandbox, "memory_mib", lambda _pid, _families: 0.0)
    async with working(tmp_path, cgroup=group) as rig:
        digest = rig.ship(RECIPES)
        report = await rig.done(rig.lease("Together", digest, memory_mib=250))
        assert report.failure.category == FailureCategory.FAILURE_CATEGORY_OUT_OF_MEMORY
        assert report.failure.message == (
            "it needs more than its limit of 250 MiB of memory (dpu_mem): the kernel killed it"
        )
        well = rig.lease("Well", digest, memory_mib=250)
        assert not (await rig.done(well)).HasField("failure")
        (name,) = rig.logs.texts(well.ref)
        assert name in tasks(group)
        # Another limit for the next task in the same process.
        tighter = await rig.done(rig.lease("Together", digest, memory_mib=150))
        assert tighter.failure.category == FailureCategory.FAILURE_CATEGORY_OUT_OF_MEMORY
    assert tasks(group) == []


async def test_a_worker_does_not_start_in_what_is_no_control_group(tmp_path: Path) -> None:
    async with surroundings(tmp_path, cgroup=tmp_path) as rig:
        with pytest.raises(BadSetting, match="DPU_WORKER_CGROUP='.*': no groups can be made there: it is no control"):
            await run(rig.settings, rig.stop)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_group_that_is_not_the_workers_is_named(tmp_path: Path) -> None:
    async with surroundings(tmp_path, cgroup=Path("/sys/fs/cgroup")) as rig:
        with pytest.raises(BadSetting, match="DPU_WORKER_CGROUP='/sys/fs/cgroup': no groups can be made there"):
            await run(rig.settings, rig.stop)
