"""The folder that a task may fill: empty when the task begins, and empty or gone when its end is told."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from dpud.worker.folders import remove

if TYPE_CHECKING:
    from pathlib import Path

#: Below a process's folder: what belongs to whom the process works as, and in it what the running task may fill.
HOME = "home"
NAME = "scratch"
#: The agent reads what a task offers: where it is another user, by its group.
MODE = 0o750
#: More than a tick of the clock by which the kernel dates changes, in any of its builds.
TICK_NS = 20_000_000


class Scratch:
    """The scratch folder of one task process: what a task left as it found it serves the next one too."""

    def __init__(self, home: Path) -> None:
        self.path = home / NAME
        self._name = str(self.path)
        self._made: tuple[int, int] | None = None
        # The time of its last change, after which it was seen to be empty.
        self._known_empty: int | None = None

    def prepare(self) -> None:
        """Make it where it is not there, and make it the working folder."""
        if self._made is None:
            self.path.mkdir(mode=MODE)
            status = self.path.stat()
            self._made, self._known_empty = (status.st_dev, status.st_ino), None
            os.chdir(self.path)

    def clear(self) -> None:
        """Remove it, with all in it, unless it is as it was made; the working folder is its parent's then."""
        if self._made is not None and not self._untouched(self._made):
            os.chdir(self.path.parent)
            self._made = None
            if self.path.is_symlink():
                self.path.unlink()
            remove(self.path)

    def _untouched(self, made: tuple[int, int]) -> bool:
        """Return whether nobody has changed it, or put anything into it."""
        try:
            found = os.lstat(self._name)
            if (found.st_dev, found.st_ino) != made or stat.S_IMODE(found.st_mode) != MODE:
                return False
            if found.st_ctime_ns == self._known_empty:
                return True
            # What is put in later than a tick of the kernel's clock after this changes the time of the folder.
            is_old = time.time_ns() - found.st_ctime_ns > TICK_NS
            is_empty = not os.listdir(self._name)  # noqa: PTH208 (a Path would be made for nothing)
        except OSError:
            return False
        self._known_empty = found.st_ctime_ns if is_old and is_empty else None
        return is_empty
