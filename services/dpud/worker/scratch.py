"""The folder that a task may fill: empty when the task begins, and empty or gone when its end is told."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from dpud.worker.folders import remove

if TYPE_CHECKING:
    from pathlib import Path

#: Below a process's folder: what belongs to whom the process works as, and in it what the running task may fill.
HOME = "home"
NAME = "scratch"
#: The agent reads what a task offers: where it is another user, by its group.
MODE = 0o750


class Scratch:
    """The scratch folder of one task process: what a task left as it found it serves the next one too."""

    def __init__(self, home: Path) -> None:
        self.path = home / NAME
        self._name = str(self.path)
        self._made: tuple[int, int] | None = None

    def prepare(self) -> None:
        """Make it where it is not there, and make it the working folder."""
        if self._made is None:
            self.path.mkdir(mode=MODE)
            status = self.path.stat()
            self._made = (status.st_dev, status.st_ino)
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
        try:
            found = os.lstat(self._name)
            with os.scandir(self._name) as entries:
                is_empty = next(entries, None) is None
        except OSError:
            return False
        return is_empty and stat.S_IMODE(found.st_mode) == MODE and (found.st_dev, found.st_ino) == made
