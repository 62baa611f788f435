"""The focal plane of an instrument as a picture: each chip where it is, in the state of its tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpu_api.v1.archive_pb2 import Instrument
    from dpud.web.chips import Chip

#: How wide the picture is; all else of it is in the same units.
WIDTH = 100.0
GAP = 0.6
#: Of its height, how wide a letter is; how much of a chip's width and height a name may take.
LETTER, ACROSS, UP = 0.62, 0.86, 0.3
LARGEST = 5.0


@dataclass(frozen=True, slots=True)
class Tile:
    """A chip in the picture; None: the job is not about it."""

    name: str
    chip: Chip | None
    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> tuple[float, float]:
        """Where its name is centred."""
        return round(self.x + self.width / 2, 2), round(self.y + self.height / 2, 2)

    @property
    def letters(self) -> float:
        """How high letters are, so that the name fits."""
        fits = self.width * ACROSS / (LETTER * max(len(self.name), 1))
        return round(min(fits, self.height * UP, LARGEST), 2)


@dataclass(frozen=True, slots=True)
class Mosaic:
    """The picture."""

    instrument: str
    height: float
    tiles: tuple[Tile, ...]


def mosaic(instrument: Instrument, chips: Sequence[Chip]) -> Mosaic | None:
    """Return the picture; None where nobody knows where the chips are."""
    if not instrument.places:
        return None
    known = {chip.name: chip for chip in chips}
    scale = WIDTH / max(place.x + place.width for place in instrument.places)
    top = max(place.y + place.height for place in instrument.places)
    tiles = tuple(
        Tile(
            place.chip,
            known.get(place.chip),
            round(place.x * scale + GAP / 2, 2),
            # A picture's y goes down.
            round((top - place.y - place.height) * scale + GAP / 2, 2),
            round(place.width * scale - GAP, 2),
            round(place.height * scale - GAP, 2),
        )
        for place in instrument.places
    )
    return Mosaic(instrument.name, round(top * scale, 2), tiles)
