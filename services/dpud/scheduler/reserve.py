"""Room on a disk that is kept back for when the disk is full."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Reserve:
    """A file that holds the room; giving it up lets others write."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    @property
    def held(self) -> bool:
        """Whether the room is kept back."""
        return self._path.exists()

    def take(self) -> bool:
        """Keep the room back, if there is so much; return whether it is."""
        if self.held:
            return True
        part = self._path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size)
            part.rename(self._path)
        except OSError:
            part.unlink(missing_ok=True)
            return False
        return True

    def give_up(self) -> bool:
        """Free the room; return whether there was any."""
        if not self.held:
            return False
        self._path.unlink()
        return True
