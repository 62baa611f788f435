"""Where guards are started, and so task processes live: beside the agent, or next door in a container of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Protocol

from dpud.worker import sandbox
from dpud.worker.families import Families
from dpud.worker.folders import remove

if TYPE_CHECKING:
    from pathlib import Path

#: -P, -s: nothing of the working folder or of a home is importable.
GUARD = (sys.executable, "-P", "-s", "-X", "faulthandler", "-m", "dpud.worker.guard")
#: Below the folder of task processes and their caches.
PROCESSES = "processes"
CACHES = "caches"


@dataclass(frozen=True, slots=True)
class Ends:
    """Descriptors that a guard gets: the far ends of what its agent holds."""

    lifeline: int
    channel: int
    tickets: int
    stdout: int
    stderr: int


@dataclass(frozen=True, slots=True)
class Belongings:
    """What is a task process's own: its home, and the compile caches of its user and its tree."""

    home: Path
    caches: Path
    uid: int | None


class Started(Protocol):
    """A guard that was started."""

    async def ended(self) -> None:
        """Return when it is gone."""
        ...

    def kill(self) -> None:
        """Have it killed."""
        ...

    async def bury(self, pid: int) -> None:
        """Do what it would have done, as far as it goes: somebody has killed it. `pid` is its task's; 0: nobody's."""
        ...

    async def memory_mib(self, pid: int) -> float:
        """Return the memory of a process and its descendants, MiB."""
        ...

    async def resident_mib(self, pid: int) -> float:
        """Return the memory of one process, MiB: cheaper than that of its family."""
        ...


class Quarters(Protocol):
    """Where task processes live."""

    #: One folder a process is made in here.
    processes: Path
    caches: Path

    async def start(self, folder: Path, ends: Ends) -> Started:
        """Start a guard whose process's folder is `folder`, made there. Raises OSError."""
        ...

    async def furnish(self, belongings: Belongings) -> None:
        """Make what is a process's own. Raises OSError."""
        ...

    async def move_in(self, user: str) -> None:
        """Have nothing left of whoever lived here before, where that must be. All processes of others are gone."""
        ...


def spawn(folder: Path, ends: Ends) -> subprocess.Popen[bytes]:
    """Start a guard as a child of this process. Raises OSError."""
    os.mkdir(folder, mode=0o750)  # noqa: PTH102 (one system call: no reason to leave the loop)
    return subprocess.Popen(  # noqa: S603 (vfork and exec take a millisecond; our own program)
        [*GUARD, *map(str, (ends.lifeline, ends.channel, ends.tickets)), str(folder)],
        env=sandbox.process_environment(folder),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=ends.stdout,
        stderr=ends.stderr,
        pass_fds=astuple(ends)[:3],
        start_new_session=True,
    )


class Here:
    """Beside the agent: its own children."""

    def __init__(self, folder: Path) -> None:
        self.processes = folder / PROCESSES
        self.caches = folder / CACHES
        self._families = Families()
        # Of processes that were killed together with their guards and their agent.
        remove(self.processes)
        self.processes.mkdir(mode=0o700)

    async def start(self, folder: Path, ends: Ends) -> Child:
        """Start a guard."""
        return Child(folder, spawn(folder, ends), self._families)

    async def furnish(self, belongings: Belongings) -> None:
        """Make what is a process's own."""
        uid = belongings.uid
        await asyncio.to_thread(sandbox.make_caches, belongings.caches, self.caches, uid)
        sandbox.make_scratch(belongings.home, uid)

    async def move_in(self, user: str) -> None:
        """Do nothing: users are kept apart process by process."""


class Child:
    """A guard that is a child of this process."""

    def __init__(self, folder: Path, guard: subprocess.Popen[bytes], families: Families) -> None:
        self._folder = folder
        self._guard = guard
        self._families = families

    async def ended(self) -> None:
        """Return when it is gone."""
        await asyncio.to_thread(self._guard.wait)

    def kill(self) -> None:
        """Kill it."""
        self._guard.kill()

    async def bury(self, pid: int) -> None:
        """Kill its task's group, and remove its folder."""
        await asyncio.to_thread(bury, pid, self._folder)

    async def memory_mib(self, pid: int) -> float:
        """Return the memory of a process and its descendants."""
        # In a thread: the more processes there are, the longer it takes, and the loop has leases to keep.
        return await asyncio.to_thread(sandbox.memory_mib, pid, self._families)

    async def resident_mib(self, pid: int) -> float:
        """Return the memory of one process."""
        return sandbox.resident_mib(pid)


def bury(pid: int, folder: Path) -> None:
    """Kill the group of a task process and remove its folder."""
    if pid:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    remove(folder)
