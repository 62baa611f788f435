"""Instruments as data: what a camera is, and what its headers mean. Their TOML files are in instruments/."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from dpu_recipes import header as headers

if TYPE_CHECKING:
    from dpu_recipes.frames import Strips
    from dpu_recipes.header import Header

_HERE: Final = Path(__file__).parent / "instruments"

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

#: Overscan method where neither the user nor the TOML says one: a value a row from the overscan in x.
OVERSCAN_METHOD: Final = 6


class InstrumentError(Exception):
    """No instrument of that name, or none that fits; the message lists the known ones. Or a TOML file is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One CCD of a camera."""

    #: 'ccd50'
    name: str
    #: What a header calls it, under one of the instrument's `chip` keys; with * and ?. Its name always counts.
    aliases: tuple[str, ...] = ()
    #: Place in the mosaic as seen in a picture: columns from the left, rows from the bottom, from 0.
    column: int = 0
    row: int = 0
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
    overscan_method: int = OVERSCAN_METHOD
    #: Keyword: pattern; a header that fits all of one group is of this instrument.
    recognise: tuple[Mapping[str, str], ...]
    #: Header keywords by our own name, the first that has a value counts.
    keys: Mapping[str, tuple[str, ...]]
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
        raise InstrumentError(f"chip {name!r} is not one of {self.name}'s {_listed(self.chip_names())}")

    def chip_names(self) -> tuple[str, ...]:
        """Return the names of the chips, in the TOML's order."""
        return tuple(chip.name for chip in self.chips)

    def place(self, chip: Chip) -> Place:
        """Return where a chip is, as if there were no gaps."""
        width, height = self.chip_size
        return Place(x=chip.column * width, y=chip.row * height, width=width, height=height)

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


class Instruments(Mapping[str, Instrument]):
    """The known instruments by name."""

    def __init__(self, instruments: Mapping[str, Instrument]) -> None:
        self._instruments = dict(sorted(instruments.items()))

    def __getitem__(self, name: str) -> Instrument:
        return self._instruments[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._instruments)

    def __len__(self) -> int:
        return len(self._instruments)

    def names(self) -> tuple[str, ...]:
        """Return the known names, sorted."""
        return tuple(self._instruments)

    def get(self, name: str) -> Instrument:  # type: ignore[override]  # an unknown instrument is an error that helps
        """Return an instrument by name. Raises InstrumentError, which lists the known ones."""
        try:
            return self._instruments[name]
        except KeyError:
            raise InstrumentError(f"instrument {name!r} is not one of {_listed(self.names())}") from None

    def recognise(self, header: Header) -> Instrument:
        """Return the instrument that a header is of. Raises InstrumentError where none or more than one fits."""
        found = [instrument for instrument in self.values() if instrument.is_of(header)]
        if len(found) == 1:
            return found[0]
        said = headers.text(header, ["INSTRUME"])
        if found:
            names = _listed(tuple(instrument.name for instrument in found))
            raise InstrumentError(f"INSTRUME={said!r} fits more than one instrument: {names}")
        what = f"INSTRUME={said!r} is" if said else "its header has no INSTRUME and is"
        raise InstrumentError(f"{what} of no known instrument ({_listed(self.names())})")


def load(extra: Path | None = None) -> Instruments:
    """Return the instruments that ship with the recipes, and those of the folder `extra`, which win.

    Raises InstrumentError, which names file, key and value.
    """
    folders = [_HERE] if extra is None else [_HERE, extra]
    if extra is not None and not extra.is_dir():
        raise InstrumentError(f"{extra} is no folder of instrument files")
    found = [_read_once(path) for folder in folders for path in sorted(folder.glob("*.toml"))]
    return Instruments({instrument.name: instrument for instrument in found})


def _read_once(path: Path) -> Instrument:
    """Return what a file describes, read again only where it has changed: every task asks for its instrument."""
    status = path.stat()
    return _read(path, status.st_ino, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=128)
def _read(path: Path, *_status: int) -> Instrument:
    from dpu_recipes.instrument_toml import read

    return read(path)


def _listed(names: tuple[str, ...]) -> str:
    few = 12
    return ", ".join(names) if len(names) <= few else f"{names[0]} ... {names[-1]}"
