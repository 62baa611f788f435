"""Sealed records: compressed in blocks, with an index at the end, so that any offset is found by reading one block.

The same bytes lie in a folder's sealed segments and in the objects of a bucket.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import zstandard

from dpu.errors import InternalError
from dpud.logs.record import Record, weight
from dpud.logs.segment import Marks, frame, unframed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

#: Bytes of records that are compressed together.
BLOCK = 256 * 1024
#: Behind the index: magic, first and behind-last offset, marks, bytes of the index, its checksum.
_TRAILER = struct.Struct("<8sQQIII")
_MAGIC = b"DPULOG1\n"
_LEVEL = 3


class Source(Protocol):
    """Where a pack's bytes come from."""

    @property
    def size(self) -> int:
        """Its whole length."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop)."""
        ...


@dataclass(frozen=True, slots=True)
class FileSource:
    """A pack in a file."""

    path: Path
    size: int

    def __str__(self) -> str:
        return str(self.path)

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop)."""
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


class PackWriter:
    """Writes records as a pack that begins at offset `start`; `write` takes the bytes in order."""

    def __init__(self, write: Callable[[bytes], object], start: int) -> None:
        self._write = write
        self._start = self._end = start
        self._marks = Marks()
        self._place = 0
        self._block: list[bytes] = []
        self._gathered = 0
        self._begins = start

    def add(self, record: Record) -> None:
        """Put a record at the end."""
        data = frame(record)
        self._block.append(data)
        self._gathered += len(data)
        self._end += weight(record)
        if self._gathered >= BLOCK:
            self._flush()

    def close(self) -> None:
        """Write the last block and the index."""
        if self._block:
            self._flush()
        index = self._marks.offsets.tobytes() + self._marks.places.tobytes()
        packed = zstandard.compress(index)
        trailer = (_MAGIC, self._start, self._end, len(self._marks.places), len(packed), zlib.crc32(packed))
        self._write(packed + _TRAILER.pack(*trailer))

    def _flush(self) -> None:
        self._marks.add(self._begins, self._place)
        packed = zstandard.compress(b"".join(self._block), _LEVEL)
        self._write(packed)
        self._place += len(packed)
        self._block, self._gathered, self._begins = [], 0, self._end


@dataclass(slots=True)
class Pack:
    """What is known of a pack; its blocks stay where they are."""

    source: Source
    start: int
    end: int
    #: Bytes of its blocks.
    size: int
    _marks: Marks = field(default_factory=Marks)

    @classmethod
    def open(cls, source: Source) -> Pack:
        """Return the pack behind a source. Raises InternalError where it is none, or damaged."""
        try:
            trailer = source.read(max(0, source.size - _TRAILER.size), source.size)
            magic, start, end, count, length, checksum = _TRAILER.unpack(trailer)
            blocks_end = source.size - _TRAILER.size - length
            packed = source.read(blocks_end, blocks_end + length)
            if magic != _MAGIC or zlib.crc32(packed) != checksum:
                raise ValueError("its end is not that of a pack")  # noqa: TRY301 (one way out)
            index = array("q", zstandard.decompress(packed))
        except (struct.error, ValueError, zstandard.ZstdError) as error:
            raise InternalError(f"{source} is damaged ({error}): restore it from a backup") from error
        return cls(source, start, end, blocks_end, Marks(index[:count], index[count:]))

    def from_offset(self, offset: int) -> Iterator[tuple[int, Record, int]]:
        """Yield the records from at or before `offset` on: each one's own offset, itself, the size of its frame."""
        for number in range(self._marks.at(offset), len(self._marks.places)):
            begin = self._marks.offsets[number]
            for record, size in self._block(number):
                yield begin, record, size
                begin += weight(record)

    def _block(self, number: int) -> list[tuple[Record, int]]:
        places = self._marks.places
        stop = places[number + 1] if number + 1 < len(places) else self.size
        try:
            return list(unframed(zstandard.decompress(self.source.read(places[number], stop))))
        except (struct.error, ValueError, zstandard.ZstdError) as error:
            raise InternalError(f"{self.source}, block {number}, is damaged ({error}): restore it from a backup") from (
                error
            )


def mergeable(sizes: Sequence[int], limit: int) -> Iterator[range]:
    """Yield the longest runs of neighbours, two or more, that are together at most `limit`."""
    begin, total = 0, 0
    for at, size in enumerate([*sizes, limit + 1]):
        if total + size > limit:
            if at - begin > 1:
                yield range(begin, at)
            begin, total = at, 0
        total += size
