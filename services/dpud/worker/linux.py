"""What Linux offers beyond Python's os: die with the parent, adopt orphans, drop privileges. Elsewhere: nothing."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522
#: Read files and search folders whatever their modes say.
CAP_DAC_READ_SEARCH = 2
#: No kernel has more capabilities.
_CAPABILITIES = 64


def die_with_parent(number: int) -> None:
    """Have signal `number` sent to this process when its parent dies."""
    prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> bool:
    """Become the parent of every descendant whose own parent dies; return whether the kernel does that."""
    return prctl(_PR_SET_CHILD_SUBREAPER, 1)


def forbid_new_privileges() -> bool:
    """Have no program started from here gain anything by its set-uid bit; return whether the kernel does that."""
    return prctl(_PR_SET_NO_NEW_PRIVS, 1)


def become(uid: int, *capabilities: int) -> None:
    """Give up root for good: this process and its children are `uid` and have these capabilities only.

    Of this thread: there must be no other.
    """
    for number in range(_CAPABILITIES):
        if number not in capabilities:
            prctl(_PR_CAPBSET_DROP, number)
    prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    _keep(capabilities)
    # The kernel hides the /proc/self of who has changed its user from itself.
    prctl(_PR_SET_DUMPABLE, 1)


def syscall(number: int, *arguments: Any) -> int:
    """Return the result of a system call. Raises OSError."""
    result = int(ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def last_error() -> int:
    """Return the error number of the system call that failed last."""
    return ctypes.get_errno()


def flush_c_output() -> None:
    """Write out what C code has printed and still holds in its buffers."""
    _libc().fflush(None)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _keep(capabilities: tuple[int, ...]) -> None:
    """Let go of all capabilities but these, which programs that are started from here have too."""
    mask = sum(1 << number for number in capabilities)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Effective, permitted, inheritable: the low words, then the high ones.
    low, high = mask & 0xFFFFFFFF, mask >> 32
    sets = (ctypes.c_uint32 * 6)(low, low, low, high, high, high)
    if ctypes.CDLL(None, use_errno=True).capset(header, sets) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"capabilities cannot be dropped: {os.strerror(error)}")
    for number in capabilities:
        prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)


def prctl(option: int, *values: int) -> bool:
    """Set something of this process; return whether the kernel does that."""
    if sys.platform != "linux":
        return False
    arguments = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0)[:4]]
    return bool(ctypes.CDLL(None, use_errno=True).prctl(option, *arguments) == 0)
