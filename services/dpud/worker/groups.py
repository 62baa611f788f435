"""Bounds the memory of a task's processes as a whole: by control groups, where the worker was given one to fill.

That is a folder of the kernel's: a group of version 2 that is delegated to the worker (systemd: Delegate=yes), or a
memory group of version 1 that it may write to.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024
#: The kernel acts so far beyond a task's limit: its own tables count, too, and the watchdog says more plainly why.
HEADROOM_MIB = 32
#: Where the worker itself goes: in version 2 a group that has groups has no processes.
_WORKERS = "worker"
_TASKS = "task-"


class Groups:
    """The groups of a worker's task processes, below one folder."""

    def __init__(self, folder: Path) -> None:
        """Take the folder. Raises OSError, which says what is wrong with it."""
        check(folder)
        self._folder = folder
        self._is_new = _is_new(folder)
        if self._is_new:
            _delegate(folder)
        self.group().remove()

    def group(self) -> Group:
        """Return a new group, in which nothing runs. Raises OSError."""
        for left in self._folder.glob(f"{_TASKS}*"):
            # One in which something runs cannot be removed.
            _remove(left)
        folder = self._folder / f"{_TASKS}{uuid4().hex}"
        folder.mkdir()
        return Group(folder, is_new=self._is_new)


class Group:
    """The group of one task process and of all that it starts."""

    def __init__(self, folder: Path, *, is_new: bool) -> None:
        self._folder = folder
        self._limit = folder / ("memory.max" if is_new else "memory.limit_in_bytes")
        self._events = folder / ("memory.events" if is_new else "memory.oom_control")
        self._mib = 0
        self._known = 0
        for name, value in (("memory.swap.max", "0"), ("memory.oom.group", "1")) if is_new else ():
            if (folder / name).exists():
                (folder / name).write_text(value)

    def take(self, pid: int) -> None:
        """Have a process live here from now on; what it has stays where it was counted. Raises OSError."""
        (self._folder / "cgroup.procs").write_text(str(pid))

    def limit(self, mib: int) -> None:
        """Bound what all in it take together."""
        if mib != self._mib:
            self._mib = mib
            # Version 1 refuses a bound below what is taken already: the watchdog sees that.
            with suppress(OSError):
                self._limit.write_text(str((mib + HEADROOM_MIB) * MIB))

    def more(self) -> bool:
        """Return whether the kernel has killed something in it since this was asked last."""
        before, self._known = self._known, self._kills()
        return self._known > before

    def _kills(self) -> int:
        for line in self._events.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        return 0

    def remove(self) -> None:
        """Remove it; where something in it has not quite ended, that is done when the next one is made."""
        _remove(self._folder)


def check(folder: Path) -> None:
    """Change nothing. Raises OSError, which says what is wrong with a folder as a control group to fill."""
    if _is_new(folder):
        if "memory" not in (folder / "cgroup.controllers").read_text().split():
            raise OSError("it has no controller of memory: delegate it (systemd: Delegate=yes)")
    elif not (folder / "memory.limit_in_bytes").exists():
        raise OSError("it is no control group of memory")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError("this user may make no groups in it: delegate it (systemd: Delegate=yes)")


def _is_new(folder: Path) -> bool:
    return (folder / "cgroup.controllers").exists()


def _delegate(folder: Path) -> None:
    """Have the groups below a folder of version 2 bound memory. Raises OSError."""
    if str(os.getpid()) in (folder / "cgroup.procs").read_text().split():
        own = folder / _WORKERS
        own.mkdir(exist_ok=True)
        (own / "cgroup.procs").write_text(str(os.getpid()))
    (folder / "cgroup.subtree_control").write_text("+memory")


def _remove(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
