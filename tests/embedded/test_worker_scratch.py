"""The folder that a task may fill: what one task puts into it, the next never finds."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpud.worker.scratch import TICK_NS, Scratch


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    before = Path.cwd()
    made = Scratch(tmp_path)
    made.prepare()
    yield made
    os.chdir(before)


def test_a_folder_that_was_left_as_it_was_serves_the_next_task_too(scratch: Scratch) -> None:
    made = scratch.path.stat()
    scratch.clear()
    left = scratch.path.stat()
    # Not when it was read last: to look into it may change that.
    assert (left.st_ino, left.st_mode, left.st_mtime_ns, left.st_ctime_ns) == (
        made.st_ino,
        made.st_mode,
        made.st_mtime_ns,
        made.st_ctime_ns,
    )
    assert Path.cwd() == scratch.path


def test_what_is_put_into_a_new_folder_at_once_is_removed(scratch: Scratch) -> None:
    for _ in range(50):
        scratch.clear()
        (scratch.path / "left").touch()
        scratch.clear()
        scratch.prepare()
        assert list(scratch.path.iterdir()) == []


@pytest.mark.parametrize("spoil", [lambda path: (path / "left").touch(), lambda path: path.chmod(0o777)])
def test_what_is_done_to_a_folder_long_known_to_be_empty_is_undone(
    scratch: Scratch, spoil: Callable[[Path], None]
) -> None:
    while time.time_ns() - scratch.path.stat().st_ctime_ns <= TICK_NS:
        scratch.clear()
    # Now looked at when its last change is old, and twice, so that it is known.
    for _ in range(2):
        scratch.clear()
    spoil(scratch.path)
    scratch.clear()
    scratch.prepare()
    assert list(scratch.path.iterdir()) == []
    assert scratch.path.stat().st_mode & 0o777 == 0o750
