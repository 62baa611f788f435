"""Files that a task offers from its scratch folder, opened so that neither links nor renaming lead elsewhere."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dpu.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Of what is no file after all: do not wait for its other end.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Scratch:
    """A task's folder, held from the first product on; by then it may be a link, which is not followed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: int | None = None

    def close(self) -> None:
        """Let go of the folder."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    @property
    def _place(self) -> int:
        if self._held is None:
            self._held = os.open(self._folder, _FOLDER)
        return self._held

    @contextmanager
    def offered(self, file: str) -> Iterator[BinaryIO]:
        """Open a file that a task named. Raises UsageError unless it is a plain file in here, of the folder's owner."""
        path = Path(os.path.relpath(file, self._folder))
        if not path.parts or path.parts[0] == os.pardir:
            raise UsageError(f"a product's file must be in the scratch folder: {file!r} is not")
        try:
            descriptor = self._open(path)
        except OSError as error:
            raise UsageError(f"a product's file cannot be read: {file!r}: {error.strerror}") from error
        with closing(os.fdopen(descriptor, "rb")) as source:
            status, owner = os.fstat(descriptor), os.fstat(self._place).st_uid
            if not stat.S_ISREG(status.st_mode) or status.st_uid != owner:
                raise UsageError(f"a product's file must be a plain file of the task's own: {file!r} is not")
            yield source

    def _open(self, path: Path) -> int:
        """Open a file, folder by folder."""
        *folders, name = path.parts
        place = os.dup(self._place)
        for folder in folders:
            try:
                inner = os.open(folder, _FOLDER, dir_fd=place)
            finally:
                os.close(place)
            place = inner
        try:
            return os.open(name, _FILE, dir_fd=place)
        finally:
            os.close(place)


def identity(source: BinaryIO) -> tuple[str, int]:
    """Return digest and size of a file."""
    source.seek(0)
    digest = hashlib.file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]  # a file of bytes has readinto
    return digest, os.fstat(source.fileno()).st_size
