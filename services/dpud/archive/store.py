"""Files by content: a port, and a memory adapter. A file's name is the SHA-256 of its bytes, in hexadecimal."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, BinaryIO, Protocol

from dpu.errors import BadFrame, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader
    from pathlib import Path

#: Large enough that a hash is not slowed by Python, small enough to stay in a processor's cache.
PIECE = 1 << 20


class Store(Protocol):
    """Where the bytes are."""

    def put(self, file: Path, digest: str, *, ours: bool = False) -> None:
        """Take in a file; it is durable on return. One that is there already is left as it is.

        `ours` says that nobody else can write the file and that `digest` was taken of its bytes as they were written,
        so that it is moved, and read by nobody again. Of any other file the bytes are copied and hashed. Raises
        BadFrame where it cannot be read or its bytes are not what `digest` says, StorageFull where there is no room;
        nothing is left then.
        """
        ...

    def open(self, digest: str) -> BinaryIO:
        """Open a file for reading. Raises NotFound."""
        ...

    def path(self, digest: str) -> Path | None:
        """Return where a file can be read in place, or None where it cannot, or is not here."""
        ...

    def remove(self, digest: str) -> None:
        """Remove a file; one that is not there is gone already."""
        ...

    def digests(self, *, settled: bool = False) -> Iterator[str]:
        """Give the digest of every file, in no order; `settled`: only of those that nobody can be taking in any more.

        One process knows what it takes in itself: that concerns a store that several may use.
        """
        ...


def read(file: Path) -> BufferedReader:
    """Open a file that somebody named. Raises BadFrame, which says why it cannot be read."""
    try:
        return file.open("rb")
    except OSError as error:
        raise BadFrame(f"{str(file)!r} cannot be read: {error.strerror}") from error


def refuse_digest(announced: str, found: str) -> BadFrame:
    """Return the error of bytes that are not those that were announced."""
    return BadFrame(f"the bytes have digest {found}, not {announced} as announced: send the file again")


class MemoryStore:
    """Files as bytes, for tests."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def put(self, file: Path, digest: str, *, ours: bool = False) -> None:
        """Take in a file."""
        with read(file) as reading:
            content = reading.read()
        if not ours and (found := hashlib.sha256(content).hexdigest()) != digest:
            raise refuse_digest(digest, found)
        self._files[digest] = content
        if ours:
            file.unlink()

    def open(self, digest: str) -> BinaryIO:
        """Open a file."""
        try:
            return io.BytesIO(self._files[digest])
        except KeyError:
            raise NotFound(f"no file has digest {digest!r}") from None

    def path(self, digest: str) -> Path | None:  # noqa: ARG002 (no file of memory has a path)
        """Return None: nothing here can be read in place."""
        return None

    def remove(self, digest: str) -> None:
        """Remove a file."""
        self._files.pop(digest, None)

    def digests(self, *, settled: bool = False) -> Iterator[str]:  # noqa: ARG002 (it is one process's own)
        """Give every digest."""
        yield from list(self._files)
