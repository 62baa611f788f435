"""One file of records: frames of length, checksum and body, only ever appended to."""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dpu.errors import InternalError
from dpud.logs.record import Record, decode, encode, weight

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FRAME = struct.Struct("<II")
#: Bytes between two marks of an index.
STRIDE = 64 * 1024


@dataclass(slots=True)
class Marks:
    """Where to begin a search for an offset: a mark every STRIDE bytes, whatever the number of records."""

    offsets: array[int] = field(default_factory=lambda: array("q"))
    places: array[int] = field(default_factory=lambda: array("q"))

    def add(self, offset: int, place: int) -> None:
        """Mark that the record at byte `place` begins at `offset`."""
        self.offsets.append(offset)
        self.places.append(place)

    def at(self, offset: int) -> int:
        """Return the number of the last mark from which on `offset` is found."""
        # Records without weight share an offset: the first mark that has it must not be passed.
        at = max(0, bisect_right(self.offsets, offset) - 1)
        while at and self.offsets[at] == self.offsets[at - 1]:
            at -= 1
        return at


@dataclass(slots=True)
class Segment:
    """What is known of a file that is still appended to, or was."""

    path: Path
    #: The offset of its first line, and the one behind its last.
    start: int
    end: int
    #: Bytes of whole records; what is behind them was never acknowledged.
    size: int = 0
    #: Nothing more goes into this file: it is being sealed, or a write that was cut short lies behind `size`.
    closed: bool = False
    _marks: Marks = field(default_factory=Marks)

    def grow(self, record: Record, size: int) -> None:
        """Note a record whose frame has `size` bytes."""
        if not self._marks.places or self.size - self._marks.places[-1] >= STRIDE:
            self._marks.add(self.end, self.size)
        self.end += weight(record)
        self.size += size

    def from_offset(self, offset: int) -> Iterator[tuple[int, Record, int]]:
        """Yield the records from at or before `offset` on: each one's own offset, itself, the size of its frame."""
        if not self._marks.places:
            return
        mark = self._marks.at(offset)
        begin = self._marks.offsets[mark]
        for record, size in frames(self.path, self._marks.places[mark], self.size):
            yield begin, record, size
            begin += weight(record)

    def scan(self) -> Iterator[tuple[Record, int]]:
        """Yield what the file holds, up to the first frame that is not whole, and note it; with the sizes of frames."""
        length = self.path.stat().st_size
        for record, size in frames(self.path, 0, length, strict=False):
            self.grow(record, size)
            yield record, size
        self.closed = self.size < length


def frame(record: Record) -> bytes:
    """Return the record as it is written."""
    body = encode(record)
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def unframed(data: bytes) -> Iterator[tuple[Record, int]]:
    """Yield the records of whole frames, with the sizes of these. Raises ValueError where they are damaged."""
    at = 0
    while at < len(data):
        length, checksum = _FRAME.unpack_from(data, at)
        body = data[at + _FRAME.size : at + _FRAME.size + length]
        if zlib.crc32(body) != checksum:
            raise ValueError(f"the record at byte {at} of its block is damaged")
        yield decode(body), _FRAME.size + length
        at += _FRAME.size + length


def frames(path: Path, at: int, stop: int, *, strict: bool = True) -> Iterator[tuple[Record, int]]:
    """Yield the records between two bytes, with the sizes of their frames.

    Ends at a frame that is not whole, or raises InternalError there if `strict`.
    """
    with path.open("rb", buffering=STRIDE) as file:
        file.seek(at)
        while at < stop:
            head = file.read(_FRAME.size)
            body = b""
            if len(head) == _FRAME.size:
                length, checksum = _FRAME.unpack(head)
                body = file.read(length) if at + _FRAME.size + length <= stop else b""
            if not body or zlib.crc32(body) != checksum:
                if strict:
                    raise InternalError(f"{path} is damaged at byte {at}: restore it from a backup")
                return
            try:
                record = decode(body)
            except ValueError as error:
                raise InternalError(f"{path}, byte {at}: {error}") from error
            yield record, _FRAME.size + len(body)
            at += _FRAME.size + len(body)


def write(path: Path, at: int, data: bytes) -> None:
    """Write `data` at byte `at`, down to the disk; the file's name too when it is new."""
    new = not path.exists()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        rest = memoryview(data)
        while rest:
            written = os.pwrite(file, rest, at)
            rest, at = rest[written:], at + written
        os.fsync(file)
    finally:
        os.close(file)
    if new:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
