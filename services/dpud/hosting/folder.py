"""A service's own folder, used by one process at a time."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dpud.hosting.settings import BadSetting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold the folder, made with mode 0700 where it is not there, for the block. Raises BadSetting."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BadSetting(f"DPU_STATE={str(folder)!r}: cannot be used: {error.strerror}") from error
    try:
        try:
            # The kernel lets go of the lock when the process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadSetting(f"DPU_STATE={str(folder)!r}: another process uses it") from error
        yield
    finally:
        os.close(lock)
