"""Which files this process and its children may touch, whoever they are: Landlock, which needs no privilege.

It also keeps them from tracing, and from Linux 6.12 on from signalling, any process outside. Once set it cannot be
taken back. (Documentation/userspace-api/landlock.rst of the kernel has the numbers.)
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from dpud.worker import linux

if TYPE_CHECKING:
    from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_SOCK, _MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 11
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
#: Rights that a single file can have; all others are a folder's.
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
#: How many rights each version of the interface knows, beginning with the first.
_KNOWN = (13, 14, 15, 15, 16)
_SCOPED_SINCE = 6
#: Abstract Unix sockets, and signals.
_SCOPES = 0b11

READ = _EXECUTE | _READ_FILE | _READ_DIR
#: Only what one knows by name: no folder can be listed.
OPEN = _READ_FILE
USE = _READ_FILE | _WRITE_FILE
#: Everything but devices and named sockets.
WRITE = ((1 << 15) - 1) & ~(_MAKE_CHAR | _MAKE_BLOCK | _MAKE_SOCK)


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """Return the version of the kernel's Landlock; 0 where it has none, or does not use it."""
    if sys.platform != "linux":
        return 0
    with suppress(OSError):
        return linux.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    return 0


class Rules:
    """Paths that stay open to this process when it closes the rest."""

    def __init__(self) -> None:
        self._version = version()
        known = (1 << _KNOWN[min(self._version, len(_KNOWN)) - 1]) - 1
        scopes = _SCOPES if self._version >= _SCOPED_SINCE else 0
        # The oldest kernels know the first field only.
        size = ctypes.sizeof(_Ruleset) if scopes else ctypes.sizeof(ctypes.c_uint64)
        ruleset = _Ruleset(known, 0, scopes)
        self._handled = known
        self._ruleset = linux.syscall(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0))

    def allow(self, paths: Iterable[str], rights: int) -> None:
        """Let what is at or below each path be used with these rights; a path that is not there is left out."""
        for path in paths:
            with suppress(FileNotFoundError, NotADirectoryError):
                self._allow(path, rights)

    def _allow(self, path: str, rights: int) -> None:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not os.path.isdir(path):  # noqa: PTH112 (a hundred paths a process)
                rights &= _OF_A_FILE
            rule = _Beneath(rights & self._handled, place)
            linux.syscall(
                _ADD_RULE, ctypes.c_int(self._ruleset), ctypes.c_int(_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0)
            )
        finally:
            os.close(place)

    def close(self) -> None:
        """Close all other paths to this thread and all that it starts. It must have no privileges to gain."""
        linux.syscall(_RESTRICT_SELF, ctypes.c_int(self._ruleset), ctypes.c_uint32(0))
        os.close(self._ruleset)
