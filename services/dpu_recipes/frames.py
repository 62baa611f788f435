"""What is known of a frame: one CCD of one exposure, or one product of a recipe."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"

#: Raw frames are ingested, everything else is made.
RAW_PREFIX = "Raw"

#: Class of what is drawn of a product: a PNG file that goes with it.
QUALITY_FIGURE = "QualityFigure"

#: Overscan method of a frame from which none was subtracted yet.
RAW = -1

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The record of a frame in the archive; its pixels are in its file."""

    #: Opaque; empty before the archive gave it one. Of a raw frame: the SHA-256 of its file.
    id: str = ""
    #: 'RawBiasFrame', 'BiasFrame', 'ReadNoise'
    frame_class: str
    instrument: str
    chip: str
    filter: str = ""
    object: str = ""
    #: The night that begins that evening: noon to noon at the telescope.
    night: date
    #: Start of the exposure, UTC; of a product, of its first input.
    date_obs: datetime
    #: Seconds.
    exptime: float = 0.0
    #: Binning, window, gain and speed in one text: only frames of one mode go together.
    readout: str = ""
    #: Method (0..10) by which the overscan was subtracted, or RAW.
    overscan: int = RAW
    #: 'WFI.2000-04-28T22:01:03.000_3.fits'
    file_name: str = ""
    #: Hexadecimal SHA-256 and size in bytes of the file; '' and 0 where the product is only values.
    digest: str = ""
    size: int = 0
    #: What its class measures, by FITS-like names: {'READNOISE': 2.34}.
    values: Mapping[str, Plain] = field(default_factory=dict)
    #: When a calibration may be used, UTC.
    timestamp_start: datetime = EPOCH
    timestamp_end: datetime = EPOCH
    is_valid: bool = True
    #: Bits; what they mean is published by the class's recipe. 0: nothing to complain of.
    quality_flags: int = 0
    #: What its quality was held to, by the limit's name: {'MAXIMUM_STDEV': {'measured': 2.1, 'limit': 4.0, 'flag': 2}};
    #: the flag is the bit that is set where it was missed.
    limits: Mapping[str, Plain] = field(default_factory=dict)
    creation_date: datetime = EPOCH
    #: Of a product: identifiers of the frames it was made from, and the process parameters.
    inputs: tuple[str, ...] = ()
    parameters: Mapping[str, Plain] = field(default_factory=dict)
    #: Of a product: the digest of all that was settled before it was made (dpu_recipes.identity), and, as JSON, each
    #: calibration that it asked for: class, frame, overscan method, identifier of the answer.
    identity: str = ""
    consulted: str = ""
    #: As JSON, the recipe with its options, the task's inputs and arguments: what makes it again as it was made.
    making: str = ""

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with `changes`."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON has it: dates as ISO texts, times with microseconds and '+00:00'."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Return the record that `to_dict` gave; names that are not ours are left out."""
        known = {item.name for item in fields(cls)}
        values = {name: value for name, value in record.items() if name in known}
        for name in ("date_obs", "timestamp_start", "timestamp_end", "creation_date"):
            if name in values:
                values[name] = datetime.fromisoformat(values[name])
        values["night"] = date.fromisoformat(values["night"])
        values["inputs"] = tuple(values.get("inputs", ()))
        return cls(**values)


Region: TypeAlias = "tuple[slice, slice]"


class BadImage(ValueError):
    """A file is no image that can be used; the message names it and says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regions:
    """Parts of a raw frame as (y, x) slices; a strip that is not there is empty.

    Strips in x span the rows of the data, strips in y its columns: a value a row of the one and a value a column of
    the other fit the data.
    """

    data: Region
    prescan_x: Region
    overscan_x: Region
    prescan_y: Region
    overscan_y: Region


@dataclass(frozen=True, slots=True, kw_only=True)
class Strips:
    """Widths of pre- and overscan around the data, in pixels of the frame: x is the fast axis, NAXIS1."""

    prescan_x: int = 0
    overscan_x: int = 0
    prescan_y: int = 0
    overscan_y: int = 0
    #: The first columns of the overscan in x, which have not settled yet: no method reads them.
    skip: int = 0

    @classmethod
    def of(cls, frame: Frame) -> Self:
        """Return the strips of a frame; none of one that was trimmed."""
        return cls(**{name: int(frame.values.get(key, 0)) for name, key in _STRIP_KEYS.items()})  # type: ignore[arg-type]  # the archive keeps what to_values gave

    def to_values(self) -> dict[str, Plain]:
        """Return the widths as a frame's values have them; what is skipped, only where something is."""
        widths = {key: getattr(self, name) for name, key in _STRIP_KEYS.items()}
        return widths if self.skip else {key: width for key, width in widths.items() if key != _STRIP_KEYS["skip"]}

    def binned(self, x: int, y: int) -> Self:
        """Return the widths after binning x by y."""
        return replace(
            self,
            prescan_x=self.prescan_x // x,
            overscan_x=self.overscan_x // x,
            prescan_y=self.prescan_y // y,
            overscan_y=self.overscan_y // y,
            skip=-(-self.skip // x),
        )

    def size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the (y, x) size of the data in a frame of `shape`. Raises BadImage where the strips leave none."""
        height = shape[0] - self.prescan_y - self.overscan_y
        width = shape[1] - self.prescan_x - self.overscan_x
        if height < 1 or width < 1:
            raise BadImage(
                f"{shape[1]} x {shape[0]} pixels leave no data beside strips of {self.prescan_x} + {self.overscan_x} "
                f"columns and {self.prescan_y} + {self.overscan_y} rows"
            )
        return height, width

    def regions(self, shape: tuple[int, int]) -> Regions:
        """Return where data and strips are in a frame of `shape`. Raises BadImage where the strips leave no data."""
        self.size(shape)
        height, width = shape
        rows = slice(self.prescan_y, height - self.overscan_y)
        columns = slice(self.prescan_x, width - self.overscan_x)
        return Regions(
            data=(rows, columns),
            prescan_x=(rows, slice(0, self.prescan_x)),
            overscan_x=(rows, slice(width - self.overscan_x + min(self.skip, self.overscan_x), width)),
            prescan_y=(slice(0, self.prescan_y), columns),
            overscan_y=(slice(height - self.overscan_y, height), columns),
        )


_STRIP_KEYS = {
    "prescan_x": "PRESCANX",
    "overscan_x": "OVSCANX",
    "prescan_y": "PRESCANY",
    "overscan_y": "OVSCANY",
    "skip": "OVSCSKIP",
}


def regions(frame: Frame, shape: tuple[int, int]) -> Regions:
    """Return where data, prescan and overscan of a frame are, as slices of its (y, x) image of `shape`."""
    return Strips.of(frame).regions(shape)


def read_image(path: Path) -> tuple[npt.NDArray[Any], Mapping[str, Any]]:
    """Return the image (y, x) of a frame's file, in its own type and the machine's byte order, and its header.

    Unsigned integers come as such (a raw frame is uint16 ADU). Raises BadImage.
    """
    import warnings

    import numpy as np
    from astropy.io import fits

    try:
        with warnings.catch_warnings(), fits.open(path, memmap=False) as units:
            # An odd card was told about at ingest; what counts here is the pixels.
            warnings.simplefilter("ignore")
            unit = next((item for item in units if item.is_image and item.header.get("NAXIS") == _PLANE), None)
            if unit is None:
                raise BadImage(f"{path.name} holds no image of two axes")
            data = unit.data
            return np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("=")), unit.header.copy()
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, BadImage):
            raise
        raise BadImage(f"{path.name} cannot be read as FITS: {error}") from error


_PLANE = 2


def write_image(path: Path, data: npt.NDArray[Any], frame: Frame, cards: Mapping[str, Plain] | None = None) -> None:
    """Write a product as FITS: the image, and a header that says what `frame` says, then `cards`.

    The same product is always the same bytes. Nothing is left at `path` where writing fails (OSError).
    """
    from astropy.io import fits

    header = fits.Header()
    for key, value, comment in _cards_of(frame):
        _put(header, key, value, comment)
    for key, value in (cards or {}).items():
        _put(header, key, value, "")
    part = path.with_name(path.name + ".part")
    try:
        fits.PrimaryHDU(data, header).writeto(part, overwrite=True)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _cards_of(frame: Frame) -> Iterator[tuple[str, Plain, str]]:
    yield "FRAMECLS", frame.frame_class, "class of this frame"
    yield "INSTRUME", frame.instrument, ""
    yield "CHIP", frame.chip, ""
    yield "FILTER", frame.filter, ""
    yield "OBJECT", frame.object, ""
    yield "NIGHT", frame.night.isoformat(), "noon to noon at the telescope, by its evening"
    yield "DATE-OBS", frame.date_obs.replace(tzinfo=None).isoformat(timespec="milliseconds"), "UTC, of the first input"
    yield "EXPTIME", frame.exptime, "[s]"
    yield "READOUT", frame.readout, "binning, size, gain and speed"
    yield "OVSCMETH", frame.overscan, "overscan method (0..10), -1: not subtracted"
    yield "QCFLAGS", frame.quality_flags, "quality bits, 0: nothing to complain of"
    yield from ((key, value, "") for key, value in sorted(frame.values.items()))
    yield "NINPUTS", len(frame.inputs), "frames that this one was made from"
    yield from ((f"INPUT{number}", identifier, "") for number, identifier in enumerate(frame.inputs, 1))
    pairs = sorted(frame.parameters.items())
    yield from ((f"PARAM{number}", f"{key} = {value}", "") for number, (key, value) in enumerate(pairs, 1))


def _put(header: Any, key: str, value: Plain, comment: str) -> None:
    """Set a card. What a card cannot hold (nothing, not-a-number, infinity) becomes an undefined one."""
    from astropy.io import fits

    if isinstance(value, list | dict):
        value = json.dumps(value, sort_keys=True)
    undefined = value is None or (isinstance(value, float) and not math.isfinite(value))
    long = len(key) > _KEYWORD
    header[f"HIERARCH {key}" if long else key] = (fits.card.UNDEFINED if undefined else value, comment)


_KEYWORD = 8


def _plain(value: Any) -> Any:
    match value:
        case datetime() | date():
            return value.isoformat()
        case tuple():
            return list(value)
        case _:
            return value
