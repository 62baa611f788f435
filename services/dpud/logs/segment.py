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
#: Bytes between two marks of the index.
STRIDE = 64 * 1024


@dataclass(slots=True)
class Segment:
    """What is known of a file of records: a mark every STRIDE bytes, whatever the number of records."""

    path: Path
    #: The offset of its first line, and the one behind its last.
    start: int
    end: int
    #: Bytes of whole records; what is behind them was never acknowledged.
    size: int = 0
    #: A write that a crash or a full disk cut short lies behind `size`: nothing more goes into this file.
    torn: bool = False
    _offsets: array[int] = field(default_factory=lambda: array("q"))
    _bytes: array[int] = field(default_factory=lambda: array("q"))

    def grow(self, record: Record, size: int) -> None:
        """Note a record whose frame has `size` bytes."""
        if not self._bytes or self.size - self._bytes[-1] >= STRIDE:
            self._offsets.append(self.end)
            self._bytes.append(self.size)
        self.end += weight(record)
        self.size += size

    def place(self, offset: int) -> tuple[int, int]:
        """Return where a search for `offset` begins: an offset at or before it, and the byte of its frame."""
        # Records without weight share an offset: the first mark that has it must not be passed.
        at = max(0, bisect_right(self._offsets, offset) - 1)
        while at and self._offsets[at] == self._offsets[at - 1]:
            at -= 1
        return self._offsets[at], self._bytes[at]


def frame(record: Record) -> bytes:
    """Return the record as it is written."""
    body = encode(record)
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def scan(path: Path, start: int) -> tuple[Segment, list[Record]]:
    """Return what a file that begins at offset `start` holds, up to the first frame that is not whole."""
    segment = Segment(path, start, start)
    records = []
    for record, size in frames(path, 0, path.stat().st_size, strict=False):
        segment.grow(record, size)
        records.append(record)
    segment.torn = segment.size < path.stat().st_size
    return segment, records


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
