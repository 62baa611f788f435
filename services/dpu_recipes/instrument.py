"""An instrument as data: what a camera is, and what its headers mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from dpu_recipes import header as headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dpu_recipes.frames import Strips
    from dpu_recipes.header import Header

#: Fewest inputs of a product, by its class; an instrument's TOML may ask for others.
MINIMA: Final[Mapping[str, int]] = MappingProxyType(
    {
        "ReadNoise": 2,
        "BiasFrame": 3,
        "DomeFlatFrame": 3,
        "TwilightFlatFrame": 3,
        "NightSkyFlatFrame": 3,
        "FringeFrame": 3,
        "GainLinearity": 2,
    }
)

#: How a chip's image may be turned, degrees.
ROTATIONS: Final = (0, 90, 180, 270)

#: Overscan methods where neither the user nor the TOML says one, by the strip that each reads, the best first.
METHODS: Final[Mapping[str, int]] = MappingProxyType({"overscan_x": 6, "overscan_y": 8, "prescan_x": 5, "prescan_y": 7})


class InstrumentError(Exception):
    """No instrument of that name, or none that fits; the message lists the known ones. Or a TOML file is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One CCD of a camera."""

    #: 'ccd50'
    name: str
    #: What a header calls it, under one of the instrument's `chip` keys; with * and ?. Its name always counts.
    aliases: tuple[str, ...] = ()
    #: Where its lower left corner is in a picture of the mosaic: columns from the left, rows from the bottom, from 0;
    #: parts of one where chips do not lie in a grid.
    column: float = 0.0
    row: float = 0.0
    #: One of ROTATIONS: degrees, counter-clockwise, by which its image is turned to lie there.
    rotation: int = 0
    #: e-/ADU and ADU, for want of better: measured values are products.
    gain: float
    read_noise: float
    saturation: float

    def is_named(self, text: str) -> bool:
        """Return whether a header that says `text` means this chip."""
        return any(headers.glob(pattern.upper(), text.upper()) for pattern in (self.name, *self.aliases))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a chip is in the focal plane, in unbinned pixels; (0, 0) is the mosaic's lower left corner."""

    x: float
    y: float
    width: float
    height: float
    #: As in `Chip`: width and height are those of the turned image.
    rotation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeRule:
    """Frames whose headers fit every pattern are of the class."""

    frame_class: str
    #: Pattern by header keyword ('ESO DPR TYPE') or by one of our own names ('object', 'exptime').
    when: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """A camera at a telescope."""

    #: 'WFI'
    name: str
    telescope: str
    #: Positive to the east.
    longitude_deg: float
    chips: tuple[Chip, ...]
    #: Unbinned pixels of a chip's data area (x, y), and the angle that one covers.
    chip_size: tuple[int, int]
    pixel_arcsec: float
    #: Unbinned widths around the data area; the data area of a frame is what they leave, at any scale.
    strips: Strips
    overscan_method: int
    #: Keyword: pattern; a header that fits all of one group is of this instrument.
    recognise: tuple[Mapping[str, str], ...]
    #: Header keywords by our own name, the first that has a value counts.
    keys: Mapping[str, tuple[str, ...]]
    #: Units of what a header says, by our own name, where its cards say none.
    units: Mapping[str, str]
    types: tuple[TypeRule, ...]
    #: Keywords that tell one read-out mode from another, beside binning and size.
    modes: tuple[str, ...] = ()
    #: Filters, with * and ?, through which the light of the night sky makes fringes.
    fringing: tuple[str, ...] = ()
    #: Groups as in `recognise`: image extensions that are no CCD's, such as masks.
    skip: tuple[Mapping[str, str], ...] = ()
    #: Limits of quality by product class and name, where they differ from the recipe's.
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    minima: Mapping[str, int] = field(default_factory=lambda: MINIMA)
    #: File that it was read from, for messages.
    source: str = ""

    def chip(self, name: str) -> Chip:
        """Return a chip by name. Raises InstrumentError, which lists the known ones."""
        for chip in self.chips:
            if chip.name == name:
                return chip
        raise InstrumentError(f"chip {name!r} is not one of {self.name}'s {shortened(self.chip_names())}")

    def chip_names(self) -> tuple[str, ...]:
        """Return the names of the chips, in the TOML's order."""
        return tuple(chip.name for chip in self.chips)

    def place(self, chip: Chip) -> Place:
        """Return where a chip is, as if there were no gaps."""
        columns, rows = self.chip_size
        width, height = (rows, columns) if chip.rotation % 180 else (columns, rows)
        return Place(x=chip.column * columns, y=chip.row * rows, width=width, height=height, rotation=chip.rotation)

    def is_of(self, header: Header) -> bool:
        """Return whether a header is of this instrument."""
        return headers.fits_any(header, self.recognise)

    def skips(self, header: Header) -> bool:
        """Return whether an image with this header is no CCD's."""
        return headers.fits_any(header, self.skip)

    def fringes(self, through: str) -> bool:
        """Return whether the night sky makes fringes through a filter."""
        return any(headers.glob(pattern.upper(), through.upper()) for pattern in self.fringing)

    def full_size(self) -> tuple[int, int]:
        """Return the unbinned pixels of a whole frame (x, y), its strips included."""
        return (
            self.chip_size[0] + self.strips.prescan_x + self.strips.overscan_x,
            self.chip_size[1] + self.strips.prescan_y + self.strips.overscan_y,
        )

    def minimum(self, frame_class: str) -> int:
        """Return how few inputs a product of a class may have."""
        return self.minima.get(frame_class, 1)


def shortened(names: tuple[str, ...]) -> str:
    """Return names as a message has them, of many the first and the last."""
    few = 12
    return ", ".join(names) if len(names) <= few else f"{names[0]} ... {names[-1]}"
