"""Sets of whole numbers that come in few long runs: which lines of an attempt are here."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Ranges:
    """Half-open ranges, kept sorted, apart and not touching."""

    __slots__ = ("_starts", "_stops")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._stops, strict=True)

    @property
    def stop(self) -> int:
        """The number above the highest member; 0 for the empty set."""
        return self._stops[-1] if self._stops else 0

    def __len__(self) -> int:
        return sum(self._stops) - sum(self._starts)

    def missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the ranges within [start, stop) that are not members."""
        holes = []
        at = bisect_left(self._stops, start)
        for begin, end in zip(self._starts[at:], self._stops[at:], strict=True):
            if begin >= stop:
                break
            if begin > start:
                holes.append((start, begin))
            start = max(start, end)
        if start < stop:
            holes.append((start, stop))
        return holes

    def add(self, start: int, stop: int) -> None:
        """Make [start, stop) members."""
        if stop <= start:
            return
        # All ranges that overlap or touch the new one melt into it.
        low = bisect_left(self._stops, start)
        high = low
        while high < len(self._starts) and self._starts[high] <= stop:
            start, stop = min(start, self._starts[high]), max(stop, self._stops[high])
            high += 1
        self._starts[low:high] = [start]
        self._stops[low:high] = [stop]
