"""Small writes into many files, durable by one sync: they are in one file, on the disk, before they are in their own.

Two such files take turns: while the files that the one speaks of are brought to the disk, the other is written.
"""

from __future__ import annotations

import os
import struct
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from dpud.logs.segment import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: Of the name and of the data that follow, and where in its file the data belongs; then a checksum of all of it.
_FRAME = struct.Struct("<HIQ")
_CHECKSUM = struct.Struct("<I")
#: So much, or so many files, and it is the other file's turn.
FULL_BYTES = 1024 * 1024
FULL_FILES = 256


class Piece(NamedTuple):
    """Data that belongs at a place in a file."""

    path: Path
    at: int
    data: bytes


class Ahead:
    """The two files in `folder`; what a process that was killed left in them is done when they are opened."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._halves = [_Half(folder / f"ahead.{number}") for number in (0, 1)]
        for half in self._halves:
            for piece in half.pieces(folder):
                _write(piece)
                half.files.add(piece.path)
            half.settle(folder)

    @property
    def is_full(self) -> bool:
        """Whether it is time to settle."""
        half = self._halves[0]
        return half.size > FULL_BYTES or len(half.files) > FULL_FILES

    def keep(self, pieces: Sequence[Piece]) -> None:
        """Write pieces, durable on return.

        Raises OSError: then none comes back after a crash, and it is for the caller to take back what is there.
        """
        half = self._halves[0]
        before = half.size
        half.append(b"".join(_frame(each, self._folder) for each in pieces))
        try:
            for each in pieces:
                _write(each)
                half.files.add(each.path)
        except OSError:
            half.cut(before)
            raise

    def turn(self) -> None:
        """Have the other file written from now on; `settle` must have ended since the last turn."""
        self._halves.reverse()

    def settle(self) -> None:
        """Bring to the disk whatever the file speaks of that was written before the turn. Takes a while."""
        self._halves[1].settle(self._folder)

    def close(self) -> None:
        """Bring all of it to the disk."""
        for half in self._halves:
            half.settle(self._folder)
            half.close()


class _Half:
    """One of the two files."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.size = 0
        self.files: set[Path] = set()

    def pieces(self, folder: Path) -> Iterator[Piece]:
        """Yield what is there, up to what was cut short."""
        data = os.pread(self._file, os.fstat(self._file).st_size, 0)
        at = 0
        while at + _FRAME.size <= len(data):
            name_size, size, place = _FRAME.unpack_from(data, at)
            end = at + _FRAME.size + name_size + size
            if data[end : end + _CHECKSUM.size] != _CHECKSUM.pack(zlib.crc32(data[at:end])):
                return
            start = at + _FRAME.size + name_size
            yield Piece(folder / data[start - name_size : start].decode(), place, data[start:end])
            at = end + _CHECKSUM.size

    def append(self, data: bytes) -> None:
        try:
            _put(self._file, data, self.size)
            os.fdatasync(self._file)
        except OSError:
            self.cut(self.size)
            raise
        self.size += len(data)

    def cut(self, size: int) -> None:
        """Let nothing be found behind `size`."""
        self.size = size
        with suppress(OSError):
            os.ftruncate(self._file, size)
            os.fdatasync(self._file)

    def settle(self, root: Path) -> None:
        for path in self.files:
            with suppress(FileNotFoundError):
                _sync(path)
        for folder in {path.parent for path in self.files}:
            with suppress(FileNotFoundError):
                sync_folder(folder)
        if self.files:
            sync_folder(root)
        os.ftruncate(self._file, 0)
        os.fdatasync(self._file)
        self.size, self.files = 0, set()

    def close(self) -> None:
        os.close(self._file)


def _frame(piece: Piece, folder: Path) -> bytes:
    name = str(piece.path.relative_to(folder)).encode()
    body = _FRAME.pack(len(name), len(piece.data), piece.at) + name + piece.data
    return body + _CHECKSUM.pack(zlib.crc32(body))


def _write(piece: Piece) -> None:
    """Write a piece where it belongs, and leave it to the system when that comes to the disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    try:
        file = os.open(piece.path, flags, 0o600)
    except FileNotFoundError:
        piece.path.parent.mkdir(mode=0o700)
        file = os.open(piece.path, flags, 0o600)
    try:
        _put(file, piece.data, piece.at)
    finally:
        os.close(file)


def _put(file: int, data: bytes, at: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest, at)
        rest, at = rest[written:], at + written


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
