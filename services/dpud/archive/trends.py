"""How what products measure changes from night to night."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dpu.errors import BadOption
from dpud.archive.records import Query, position

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpu_recipes.frames import Frame
    from dpud.archive.catalogue import Catalogue

#: Products that are read at a time.
_PAGE = 1000


class Point(NamedTuple):
    """A value, and the product that it was measured for."""

    frame: Frame
    value: float


@dataclass(frozen=True, slots=True)
class Trends:
    """Follows one value of a class through the catalogue."""

    catalogue: Catalogue

    def pages(self, query: Query, value: str) -> Iterator[list[Point]]:
        """Give the products of a query that have the value, in order of DATE-OBS and chip. Raises BadOption."""
        if not (query.frame_class and query.selection.instrument and value):
            raise BadOption("a trend is of one instrument, one class and one of its values: name all three")
        after = None
        while page := self.catalogue.select(query, after=after, limit=_PAGE):
            yield [point for record in page if (point := _point(record.frame, value)) is not None]
            after = position(page[-1], only_job=False)


def _point(frame: Frame, value: str) -> Point | None:
    found = frame.values.get(value)
    if not isinstance(found, int | float) or not math.isfinite(found):
        return None
    return Point(frame, float(found))
