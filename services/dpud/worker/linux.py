"""What Linux offers beyond Python's os: die with the parent, adopt orphans. Elsewhere these do nothing."""

from __future__ import annotations

import ctypes
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(number: int) -> None:
    """Have signal `number` sent to this process when its parent dies."""
    _prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> bool:
    """Become the parent of every descendant whose own parent dies; return whether the kernel does that."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def flush_c_output() -> None:
    """Write out what C code has printed and still holds in its buffers."""
    ctypes.CDLL(None).fflush(None)


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0)
