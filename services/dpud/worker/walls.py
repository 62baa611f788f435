"""What a worker leaves open to the task processes of each user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpud.worker.confinement import Confinement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dpud.worker.uids import Uids


@dataclass(frozen=True, slots=True, kw_only=True)
class Walls:
    """The same for all tasks of a worker, but for what belongs to their users."""

    #: None: tasks run as the worker does.
    uids: Uids | None
    #: Folders that the worker's owner opens to all tasks, to read.
    readable: tuple[Path, ...]
    #: Folders of frames, each under a name that nobody can guess.
    frames: tuple[Path, ...]

    def uid_of(self, user: str) -> int | None:
        """Return as whom a user's tasks run. Raises Exhausted when there are too many users."""
        return None if self.uids is None else self.uids.of(user)

    def around(self, user: str, code: Sequence[Path], home: Path, caches: Path) -> dict[str, Any]:
        """Return a new process's confinement, as it travels: its code to read, home and its user's caches to write."""
        return Confinement(
            uid=self.uid_of(user),
            readable=[*map(str, (*self.readable, *code))],
            known=list(map(str, self.frames)),
            writable=[str(home), str(caches.parent)],
        ).to_message()
