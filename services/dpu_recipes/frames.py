"""What is known of a frame: one CCD of one exposure, or one product of a recipe."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"

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
    creation_date: datetime = EPOCH
    #: Of a product: identifiers of the frames it was made from, and the process parameters.
    inputs: tuple[str, ...] = ()
    parameters: Mapping[str, Plain] = field(default_factory=dict)

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


def _plain(value: Any) -> Any:
    match value:
        case datetime() | date():
            return value.isoformat()
        case tuple():
            return list(value)
        case _:
            return value
