"""What a task process closes to itself before it runs anybody's code, once and for good: set by the process itself.

It needs no privilege. What the kernel does not have is left out, unless the worker was told to require it.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from dpud.worker import landlock, linux, seccomp

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What programs and libraries read besides themselves. Nothing here is anybody's.
SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/alternatives"),
    *("/etc/localtime", "/etc/timezone", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/os-release"),
    *("/etc/mime.types", "/etc/fonts", "/sys/devices/system/cpu", "/sys/devices/system/node", "/proc"),
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
#: Processes and threads that a task's user may have, beyond those it had when the process began.
PROCESSES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What stays open to one task process."""

    #: What it becomes; None: it stays what it is.
    uid: int | None
    #: Folders and files to read, besides the interpreter, the system and the installed code.
    readable: Sequence[str]
    #: Folders whose files can be read by who knows their names, and which cannot be listed.
    known: Sequence[str]
    writable: Sequence[str]

    def to_message(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Confinement:
        """Return what was sent."""
        return cls(**{each.name: message[each.name] for each in fields(cls)})

    def enter(self) -> None:
        """Close everything else to this process and all that it starts. Raises OSError where that fails half-way."""
        _check_alone()
        parent = os.getppid()
        rules = self._rules() if landlock.version() else None
        _limit_processes(os.getuid() if self.uid is None else self.uid)
        if self.uid is not None:
            # The list of files, not their modes, decides what it may read; so there must be a list.
            if rules is None:
                raise OSError("a task with a uid of its own needs Landlock")
            linux.become(self.uid, linux.CAP_DAC_READ_SEARCH)
        linux.forbid_new_privileges()
        if rules is not None:
            rules.close()
        seccomp.enforce()
        # The kernel forgets this wish when a process changes its user.
        linux.die_with_parent(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    def _rules(self) -> landlock.Rules:
        rules = landlock.Rules()
        rules.allow((*SYSTEM, *installed(), *self.readable), landlock.READ)
        rules.allow(self.known, landlock.OPEN)
        rules.allow(DEVICES, landlock.USE)
        rules.allow(self.writable, landlock.WRITE)
        return rules


def installed() -> set[str]:
    """Return where the interpreter and the installed code are."""
    home = os.path.dirname(os.path.realpath(sys.executable))  # noqa: PTH120 (strings, as sys.path has them)
    return {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, home, *filter(os.path.isabs, sys.path)}


def lacking(uids: object | None) -> list[str]:
    """Return what this machine cannot keep tasks by, in words; empty where it has all."""
    found = []
    if not landlock.version():
        found.append("Landlock (Linux 5.13 with CONFIG_SECURITY_LANDLOCK, among the lsm= of its command line)")
    if not seccomp.supported():
        found.append("a filter of system calls (seccomp, on x86_64 or aarch64)")
    if os.getuid() == 0 and uids is None:
        found.append("uids for its tasks (DPU_WORKER_UIDS)")
    return found


def _check_alone() -> None:
    """Raise OSError where a second thread would stay open."""
    with suppress(FileNotFoundError):
        if (count := len(os.listdir("/proc/self/task"))) > 1:  # noqa: PTH208 (names suffice)
            raise OSError(f"{count} threads run already: one of the modules that were loaded first has started them")


def _limit_processes(uid: int) -> None:
    """Bound how many processes and threads this user may have; the kernel counts them all, and exempts root."""
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    limit = _threads_of(uid) + PROCESSES
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))


def _threads_of(uid: int) -> int:
    """Return how many threads a user has on this machine."""
    count = 0
    with suppress(FileNotFoundError), os.scandir("/proc") as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.name.isdecimal() and entry.stat().st_uid == uid:
                    count += len(os.listdir(f"{entry.path}/task"))  # noqa: PTH208 (names suffice)
    return count
