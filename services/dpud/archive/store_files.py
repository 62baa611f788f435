"""The store in a folder: each file as aa/bb/DIGEST, whole or not there, read-only."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO
from uuid import uuid4

from dpu.errors import BadFrame, NotFound, StorageFull
from dpud.archive.store import PIECE, read, refuse_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader, FileIO
    from pathlib import Path

#: What a file system says when it takes no more, or nothing from us.
REFUSALS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO})
_DIGEST = re.compile(r"[0-9a-f]{64}")


class FolderStore:
    """Files under one folder of a local disk, which is this store's alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._partial = folder / "partial"
        self._making = threading.Lock()
        with refusing(folder):
            self._partial.mkdir(parents=True, exist_ok=True)
            # What a killed process was writing is nobody's.
            for left in self._partial.iterdir():
                left.unlink()

    def put(self, file: Path, digest: str, *, ours: bool = False) -> None:
        """Take in a file."""
        if not _DIGEST.fullmatch(digest):
            # It becomes a path, and comes from outside.
            raise BadFrame(f"{digest!r} is no digest: 64 hexadecimal digits are")
        target = self._place(digest)
        with read(file) as reading, refusing(self._folder):
            self._make(target.parent)
            if target.exists():
                pass
            elif ours and os.fstat(reading.fileno()).st_dev == self._folder.stat().st_dev:
                _settle(reading.fileno())
                file.rename(target)
            else:
                self._copy(reading, target, known=ours)
            # Also where it was there: another thread may have named it a moment ago.
            sync(target.parent)
            if ours:
                file.unlink(missing_ok=True)

    def open(self, digest: str) -> BinaryIO:
        """Open a file."""
        try:
            return self._place(digest).open("rb")
        except FileNotFoundError:
            raise NotFound(f"no file has digest {digest!r}") from None

    def path(self, digest: str) -> Path | None:
        """Return where a file is."""
        place = self._place(digest)
        return place if place.exists() else None

    def remove(self, digest: str) -> None:
        """Remove a file."""
        self._place(digest).unlink(missing_ok=True)

    def digests(self, *, settled: bool = False) -> Iterator[str]:  # noqa: ARG002 (it is one process's own)
        """Give every digest."""
        for file in self._folder.glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/*"):
            if _DIGEST.fullmatch(file.name):
                yield file.name

    def _place(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest[2:4] / digest

    def _make(self, folder: Path) -> None:
        """Make a folder of two levels, durably: who finds it there may rely on it."""
        with self._making:
            for level in (folder.parent, folder):
                if not level.exists():
                    level.mkdir()
                    sync(level.parent)

    def _copy(self, reading: BufferedReader, target: Path, *, known: bool) -> None:
        """Copy what is read to a name of no meaning; check it, where it is not known; then give it its own."""
        partial = self._partial / uuid4().hex
        try:
            if (found := _copied(reading, partial)) != target.name and not known:
                raise refuse_digest(target.name, found)
            partial.rename(target)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def refusing(folder: Path) -> Iterator[None]:
    """Turn a disk's refusal inside the block into StorageFull, which names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        raise StorageFull(f"{folder} takes nothing more: {error.strerror}: nothing was stored") from error


def sync(folder: Path) -> None:
    """Make the entries of a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(writing: FileIO, data: bytes) -> None:
    """Write all of `data` without a buffer: a disk that is nearly full takes a part of it, and no more is said."""
    rest = memoryview(data)
    while rest:
        rest = rest[writing.write(rest) :]


def write_durably(file: Path, content: bytes) -> None:
    """Write a small file, whole or not at all."""
    partial = file.with_name(f"{file.name}.part")
    with partial.open("wb") as writing:
        writing.write(content)
        writing.flush()
        os.fsync(writing.fileno())
    partial.rename(file)
    sync(file.parent)


def _copied(reading: BufferedReader, target: Path) -> str:
    """Return the digest of what was written, however the source changes meanwhile."""
    digest = hashlib.sha256()
    with target.open("xb", buffering=0) as writing:
        while piece := reading.read(PIECE):
            digest.update(piece)
            write_all(writing, piece)
        _settle(writing.fileno())
    return digest.hexdigest()


def _settle(descriptor: int) -> None:
    os.fchmod(descriptor, 0o444)
    os.fsync(descriptor)
