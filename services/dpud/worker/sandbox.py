"""What a task process may have: its environment, its limits, and how much memory and disk it really takes."""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from dpud.worker.folders import remove

if TYPE_CHECKING:
    from dpud.worker.families import Families

MIB = 1024 * 1024
#: What a process reserves beyond what it uses (interpreter, numpy, thread stacks): the watchdog counts what it uses.
RESERVE_MIB = 256
OPEN_FILES = 1024
#: Folders of compiled code that are kept: of a user and a tree, or of a user and what kernels are made of.
CACHES = 256
#: One thread a task: slots, not libraries, share out the cores.
SINGLE_THREADED = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one task may take."""

    time_s: float
    memory_mib: int
    scratch_mib: int

    def limits(self) -> dict[str, int]:
        """Return the soft resource limits by their names in the module `resource`."""
        return {
            # Of data, not of address space: frames that are mapped from files cost no memory of the task's own.
            "RLIMIT_DATA": (self.memory_mib + RESERVE_MIB) * MIB,
            "RLIMIT_FSIZE": self.scratch_mib * MIB,
            "RLIMIT_NOFILE": OPEN_FILES,
            "RLIMIT_CORE": 0,
        }


def process_environment(home: Path) -> dict[str, str]:
    """Return the whole environment of a new task process: nothing is inherited."""
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]),
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        # The same input gives the same product, to the last bit.
        "PYTHONHASHSEED": "0",
        "MPLBACKEND": "Agg",
        **dict.fromkeys(SINGLE_THREADED, "1"),
    }


def task_environment(scratch: Path, caches: Path) -> dict[str, str]:
    """Return what changes in the environment with each task. `caches` is of one user and one tree of code.

    Kernels are kept beside it: they are the same in all trees that have what they are made of.
    """
    return {
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "NUMBA_CACHE_DIR": str(caches.parent),
        "NUMBA_CACHE_LOCATOR_CLASSES": "dpud.worker.kernels.TreeLocator,UserProvidedCacheLocator",
    }


def caches_of(folder: Path, user: str, code_digest: str) -> Path:
    """Return the folder of compile caches of one user and one tree of code."""
    owner = hashlib.sha256(user.encode()).hexdigest()[:16]
    return folder / owner / (code_digest[:32] or "installed")


def make_caches(caches: Path, everybodys: Path, uid: int | None = None) -> None:
    """Make a folder of compile caches for `uid`, or mark it as used; of too many, those unused longest go.

    The folder around it is of its user too: kernels are kept there.
    """
    caches.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Its user can put links there.
    os.utime(caches, follow_symlinks=False)
    if uid is not None and {caches.lstat().st_uid, caches.parent.lstat().st_uid} != {uid}:
        _give(caches.parent, uid)
    by_use = sorted(everybodys.glob("*/*"), key=_used)
    for unused in by_use[:-CACHES]:
        remove(unused)


def make_scratch(scratch: Path, uid: int | None = None) -> None:
    """Make a task's folder, which belongs to `uid`."""
    scratch.mkdir(mode=0o750)
    if uid is not None:
        os.chown(scratch, uid, uid)


def _used(folder: Path) -> float:
    with suppress(FileNotFoundError):
        return folder.lstat().st_mtime
    return 0.0


def _give(folder: Path, uid: int) -> None:
    """Give a folder and all in it to a user; links are given, never followed."""
    for where, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            os.chown(f"{where}/{name}", uid, uid, follow_symlinks=False)


def memory_mib(pid: int, families: Families) -> float:
    """Return the memory of a process and its descendants, MiB, without files that they only map."""
    if descendants := families.descendants(pid):
        return sum(map(_proportional, [pid, *descendants])) / MIB
    with suppress(psutil.Error):
        used = psutil.Process(pid).memory_info()
        return float(used.rss - getattr(used, "shared", 0)) / MIB
    return 0.0


def resident_mib(pid: int) -> float:
    """Return the memory of one process, MiB: cheaper than that of its family."""
    with suppress(psutil.Error):
        return float(psutil.Process(pid).memory_info().rss) / MIB
    return 0.0


def _proportional(pid: int) -> float:
    """Return a process's share of memory: what forked processes share counts once."""
    with suppress(psutil.Error):
        used = psutil.Process(pid).memory_full_info()
        return float(getattr(used, "pss", used.uss))
    return 0.0


def folder_mib(folder: Path) -> float:
    """Return what is stored in a folder, MiB."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(f"{where}/{name}").st_blocks * 512
    return total / MIB


class KernelKills:
    """Tells whether the kernel has killed a process of this machine for want of memory."""

    def __init__(self) -> None:
        self._known = _out_of_memory_kills()

    def more(self) -> bool:
        """Return whether it has since this was asked last."""
        before, self._known = self._known, _out_of_memory_kills()
        return self._known > before


def _out_of_memory_kills() -> int:
    """Return how many processes the kernel has killed so since it started; 0 where it does not say."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
