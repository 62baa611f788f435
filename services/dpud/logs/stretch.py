"""A stretch of a job's records, wherever it lies and however it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dpud.logs.record import Record, weight
from dpud.logs.store import Placed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Bytes of records that are looked at in one go.
PIECE = 1024 * 1024


class Stretch(Protocol):
    """Records that follow each other, from offset `start` to before `end`."""

    start: int
    end: int
    #: Bytes that they take where they lie.
    size: int

    def from_offset(self, offset: int) -> Iterator[tuple[int, Record, int]]:
        """Yield the records from at or before `offset` on: each one's own offset, itself, the size of its frame."""
        ...


def look(stretch: Stretch, offset: int, budget: int) -> list[Placed]:
    """Return what readers see from the record that holds `offset` on, about `budget` bytes."""
    found: list[Placed] = []
    for begin, record, size in stretch.from_offset(max(offset, stretch.start)):
        if weight(record) and begin + weight(record) > offset:
            found.append(Placed(begin, record))
            budget -= size
        if budget <= 0:
            break
    return found


def pieces(records: Iterable[tuple[Record, int]]) -> Iterator[list[Record]]:
    """Yield records, given with their sizes, in lists of about PIECE bytes."""
    piece: list[Record] = []
    size = 0
    for record, length in records:
        piece.append(record)
        size += length
        if size >= PIECE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def everything(stretch: Stretch) -> Iterator[tuple[Record, int]]:
    """Yield all records of a stretch, with their sizes."""
    return ((record, size) for _, record, size in stretch.from_offset(stretch.start))
