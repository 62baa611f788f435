"""Control groups as files: what is written where, in both versions of the kernel's interface."""

import os
from pathlib import Path

import pytest

from dpud.worker.groups import HEADROOM_MIB, Groups

MIB = 1024 * 1024


def new(folder: Path, controllers: str = "cpu memory pids", processes: str = "") -> Path:
    """Return a folder as a group of version 2 has it."""
    folder.mkdir()
    (folder / "cgroup.controllers").write_text(controllers)
    (folder / "cgroup.procs").write_text(processes)
    (folder / "cgroup.subtree_control").write_text("")
    return folder


def old(folder: Path) -> Path:
    """Return a folder as a memory group of version 1 has it."""
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text("9223372036854771712")
    return folder


def groups(folder: Path) -> list[Path]:
    return list(folder.glob("task-*"))


def test_a_group_of_version_2_bounds_memory_and_dies_as_one(tmp_path: Path) -> None:
    made = Groups(new(tmp_path / "group"))
    assert (tmp_path / "group" / "cgroup.subtree_control").read_text() == "+memory"
    group = made.group()
    (place,) = groups(tmp_path / "group")
    group.take(4711)
    group.limit(512)
    assert (place / "cgroup.procs").read_text() == "4711"
    assert (place / "memory.max").read_text() == str((512 + HEADROOM_MIB) * MIB)
    (place / "memory.events").write_text("low 0\noom 3\noom_kill 0\noom_group_kill 0\n")
    assert not group.more()
    (place / "memory.events").write_text("low 0\noom 4\noom_kill 2\noom_group_kill 1\n")
    assert [group.more(), group.more()] == [True, False]


def test_a_worker_leaves_a_group_of_version_2_that_is_to_have_groups(tmp_path: Path) -> None:
    folder = new(tmp_path / "group", processes=f"{os.getpid()}\n")
    Groups(folder)
    assert (folder / "worker" / "cgroup.procs").read_text() == str(os.getpid())


def test_a_group_of_version_1_bounds_memory(tmp_path: Path) -> None:
    group = Groups(old(tmp_path / "group")).group()
    (place,) = groups(tmp_path / "group")
    group.limit(100)
    assert (place / "memory.limit_in_bytes").read_text() == str((100 + HEADROOM_MIB) * MIB)
    (place / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    assert group.more()


def test_what_a_killed_worker_left_is_removed(tmp_path: Path) -> None:
    folder = old(tmp_path / "group")
    (folder / "task-left").mkdir()
    Groups(folder)
    assert groups(folder) == []


@pytest.mark.parametrize("kind", ["none", "no memory"])
def test_a_folder_that_is_no_group_of_memory_says_so(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "group"
    if kind == "none":
        folder.mkdir()
    else:
        new(folder, controllers="cpu")
    with pytest.raises(OSError, match="it is no control group of memory|it has no controller of memory: delegate it"):
        Groups(folder)
