"""Where the chips stand in the focal plane, and how each is turned there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpu_recipes.instrument import Chip, Instrument


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """Where one chip's rows and columns are: from the middle of the mosaic, part of the side along which they follow.

    Sides go to the right and up. Of a chip that is turned by a quarter, rows follow each other along the width.
    """

    #: Where the first begins and the last ends.
    rows: tuple[float, float]
    columns: tuple[float, float]
    #: Whether it is turned by a quarter, to either side.
    across: bool


def stand(instrument: Instrument, chip: Chip) -> Stand:
    """Return where a chip stands."""
    place, (width, height) = instrument.place(chip), _size(instrument)
    right = (place.x / width - 0.5, (place.x + place.width) / width - 0.5)
    up = (place.y / height - 0.5, (place.y + place.height) / height - 0.5)
    # The image's columns go to the right, its rows up; then it is turned.
    columns, rows = {
        0: (right, up),
        90: (up, right[::-1]),
        180: (right[::-1], up[::-1]),
        270: (up[::-1], right),
    }[place.rotation]
    return Stand(rows=rows, columns=columns, across=place.rotation % 180 != 0)


def mosaic(instrument: Instrument) -> tuple[float, float]:
    """Return the height and the width of the mosaic, in chips that are not turned."""
    (columns, rows), (width, height) = instrument.chip_size, _size(instrument)
    return height / rows, width / columns


def _size(instrument: Instrument) -> tuple[float, float]:
    """Return the mosaic's width and height, unbinned pixels."""
    places = [instrument.place(chip) for chip in instrument.chips]
    return max(place.x + place.width for place in places), max(place.y + place.height for place in places)
