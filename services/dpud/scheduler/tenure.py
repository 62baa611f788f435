"""What a scheduler's folder keeps of the epoch that it leads in: the next process there need not wait for its end."""

from __future__ import annotations

import fcntl
import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

log = structlog.get_logger(__name__)


class Tenure:
    """The epoch of this folder's scheduler in one database; without a file, nothing is kept."""

    def __init__(self, file: TextIO | None, database: str) -> None:
        self._file = file
        # Epochs of two databases have nothing to do with each other; a URL may hold a password.
        self._database = hashlib.sha256(database.encode()).hexdigest()

    @property
    def last(self) -> int:
        """The epoch in which a process of this folder led last, which is gone; 0 where there was none."""
        if self._file is None:
            return 0
        self._file.seek(0)
        epoch, _, database = self._file.read().partition(" ")
        return int(epoch) if epoch.isdecimal() and database == self._database else 0

    def note(self, epoch: int) -> None:
        """Keep the epoch in which this process leads."""
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(f"{epoch} {self._database}")
            self._file.flush()


@contextmanager
def held(folder: Path, database: str) -> Iterator[Tenure]:
    """Give the tenure in a folder, to one living process at a time; to others, and where none is kept, an empty one."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (folder / "epoch").open("a+")
    except OSError as error:
        log.warning("no epoch is kept: a restart waits until the one before has ended", why=error.strerror)
        yield Tenure(None, database)
        return
    with file:
        try:
            # Until the process ends, however it does: whoever gets it knows that the one before is gone.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("another scheduler runs in this folder", folder=str(folder))
            yield Tenure(None, database)
        else:
            yield Tenure(file, database)
