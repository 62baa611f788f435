"""What a task may leave behind in its process: whatever makes the process unfit for a next one."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any, NamedTuple

#: Open files that a task may forget: the garbage collector closes them in its own time.
FORGOTTEN_FILES = 32


SIGNALS = tuple(map(int, sorted(signal.valid_signals())))
# signal.getsignal itself, without making an enum of each of its answers: that would take most of the time here.
# What os.environ holds, without decoding each of its strings anew: the same, for the same reason.
_environment = getattr(os.environ, "_data", os.environ)
_handler = getattr(signal, "_signal", signal).getsignal


class State(NamedTuple):
    """What is compared before and after a task."""

    folder: str
    environment: dict[Any, Any]
    threads: frozenset[int | None]
    handlers: tuple[Any, ...]
    umask: int
    numpy_errors: Any
    standard_files: tuple[Any, ...]
    path: tuple[str, ...]
    files: int
    children: bool


def state() -> State:
    """Return how things stand in this process."""
    return State(
        folder=_working_folder(),
        environment=dict(_environment),
        threads=frozenset(thread.ident for thread in threading.enumerate()),
        handlers=tuple(map(_handler, SIGNALS)),
        umask=_umask(),
        numpy_errors=numpy.geterr() if (numpy := sys.modules.get("numpy")) else None,
        standard_files=tuple(map(_identity, (0, 1, 2))),
        path=tuple(sys.path),
        files=_open_files(),
        children=_has_children(),
    )


def differences(before: State, after: State) -> list[str]:
    """Return what a task has left behind, in words; empty where its process is as good as before."""
    if before == after and not after.children:
        return []
    found = [
        word
        for word, was, now in (
            ("working folder", before.folder, after.folder),
            ("environment", before.environment, after.environment),
            ("signal handlers", before.handlers, after.handlers),
            ("umask", before.umask, after.umask),
            ("standard files", before.standard_files, after.standard_files),
            ("sys.path", before.path, after.path),
        )
        if was != now
    ]
    if not after.threads <= before.threads:
        found.append("threads")
    # numpy may have been imported by the task itself.
    if before.numpy_errors is not None and before.numpy_errors != after.numpy_errors:
        found.append("numpy's error state")
    if after.files > before.files + FORGOTTEN_FILES:
        found.append("open files")
    if after.children:
        found.append("child processes")
    return found


def _working_folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 (a Path of it would be made for nothing)
    except OSError:
        return "a folder that is gone"


def _umask() -> int:
    now = os.umask(0o077)
    os.umask(now)
    return now


def _identity(number: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _open_files() -> int:
    try:
        # Newer kernels tell their number as the folder's size; before, it has none.
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))  # noqa: PTH116, PTH208 (no Path)
    except OSError:
        return 0


def _has_children() -> bool:
    """Return whether a child is left, alive or not collected."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
