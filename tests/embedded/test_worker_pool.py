"""When a warm process is let go: after many tasks, when it has grown, when nobody needs it."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from dpud.worker import main, pool
from fakes_worker import Rig, until, working

RECIPES = """
KEPT = []

def Say(options, archive, scratch, spec):
    print(os.getpid())

def Grow(options, archive, scratch, spec):
    KEPT.append(bytearray(os.urandom(1 << 20) * 20))
    print(os.getpid())
"""
Process = Callable[[str], Awaitable[int]]


def bounded(monkeypatch: pytest.MonkeyPatch, **bounds: float) -> None:
    """Have workers keep processes within other bounds than their own."""
    monkeypatch.setattr(main, "Policy", partial(pool.Policy, **bounds))


def processes(rig: Rig) -> Process:
    """Return what runs a recipe and says in which process."""
    digest = rig.ship(RECIPES)

    async def run(recipe: str) -> int:
        lease = rig.lease(recipe, digest)
        report = await rig.done(lease)
        assert not report.HasField("failure"), report
        return int(json.loads(rig.logs.texts(lease.ref)[0]))

    return run


async def test_a_process_is_let_go_after_so_many_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bounded(monkeypatch, tasks=3, busy_s=0.0)
    async with working(tmp_path) as rig:
        run = processes(rig)
        said = [await run("Say") for _ in range(7)]
    first, second, third = said[0], said[3], said[6]
    assert said == [first] * 3 + [second] * 3 + [third]
    assert len({first, second, third}) == 3


async def test_many_tasks_that_are_done_at_once_are_no_reason_to_let_a_process_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded(monkeypatch, tasks=3, busy_s=3600.0)
    async with working(tmp_path) as rig:
        run = processes(rig)
        assert len({await run("Say") for _ in range(7)}) == 1


async def test_a_process_that_has_grown_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bounded(monkeypatch, growth_mib=50.0)
    monkeypatch.setattr(pool, "WEIGHED_EVERY", 1)
    async with working(tmp_path) as rig:
        run = processes(rig)
        said = [await run("Grow") for _ in range(5)]
    # 20 MiB a task, and the first is what growth is measured by.
    assert said[0] == said[1]
    assert said[0] != said[4]


async def test_a_process_that_nobody_needs_for_long_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bounded(monkeypatch, idle_s=0.2)
    async with working(tmp_path) as rig:
        pid = await processes(rig)("Say")
        await until(lambda: not psutil.pid_exists(pid), "the end of the idle process")
