"""Reads an instrument's TOML file; what is wrong in it is named by file, key and value."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from dpu_recipes.frames import Strips
from dpu_recipes.instrument import METHODS, MINIMA, ROTATIONS, Chip, Instrument, InstrumentError, TypeRule
from dpu_recipes.units import UNITS, known

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

T = TypeVar("T")

#: Our names of what a header says. Each has keywords in a TOML's [keys]; those that are here need none there.
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "date_obs": ("DATE-OBS", "DATE-BEG"),
    "time_obs": ("TIME-OBS", "UTC", "UT"),
    "mjd": (),
    "exptime": ("EXPTIME", "EXPOSURE"),
    "filter": ("FILTER",),
    "object": ("OBJECT",),
    "chip": ("EXTNAME",),
    "image_type": ("IMAGETYP", "OBSTYPE"),
    "longitude": (),
    "data_section": (),
    "trim_section": (),
    "binning": (),
    "binning_x": (),
    "binning_y": (),
    "prescan_x": (),
    "overscan_x": (),
    "prescan_y": (),
    "overscan_y": (),
    "extensions": ("NEXTEND",),
    "gain": (),
    "read_noise": (),
    "saturation": (),
    "ra": ("RA",),
    "dec": ("DEC",),
    "airmass": ("AIRMASS",),
    "template_start": (),
}

#: Classes of raw frames that a rule may give.
RAW_CLASSES: Final = (
    "RawBiasFrame",
    "RawDarkFrame",
    "RawDomeFlatFrame",
    "RawTwilightFlatFrame",
    "RawScienceFrame",
    "RawStandardFrame",
)

_TURN: Final = 360.0
_OVERSCAN_METHODS: Final = range(11)
_STRIPS: Final = ("prescan_x", "overscan_x", "prescan_y", "overscan_y")


def read(path: Path) -> Instrument:
    """Return the instrument that a TOML file describes. Raises InstrumentError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InstrumentError(f"{path.name}: no TOML: {error}") from error
    return _instrument(_Table(table, path.name, ""), path.name)


class _Table:
    """A table of the file: each value is taken once and checked; what nobody took is an error."""

    def __init__(self, table: Mapping[str, Any], file: str, name: str) -> None:
        self._table = dict(table)
        self._file = file
        self._name = name

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        value = self._table.pop(key, default)
        if value is None:
            raise InstrumentError(f"{self._file}: {self._name}{key} is missing")
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.refuse(key, value, f"{_KINDS.get(kind, kind.__name__)} is needed")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Take a text or a list of texts; () where there is none."""
        value = self._table.pop(key, [])
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) and item for item in items):
            self.refuse(key, value, "a text or a list of texts is needed")
        return tuple(items)

    def table(self, key: str) -> _Table:
        return _Table(self.take(key, dict, {}), self._file, f"{self._name}{key}.")

    def tables(self, key: str, *, needed: bool = True) -> list[_Table]:
        rows = self.take(key, list, None if needed else [])
        if (needed and not rows) or not all(isinstance(row, dict) for row in rows):
            self.refuse(key, rows, "one or more tables are needed")
        return [_Table(row, self._file, f"{self._name}{key}[{number}].") for number, row in enumerate(rows)]

    def patterns(self) -> dict[str, str]:
        """Take everything as patterns by keyword. Raises InstrumentError where there is none."""
        found = {_keyword(name): self._pattern(name) for name in self.names()}
        if not found:
            raise InstrumentError(f"{self._file}: {self._name.rstrip('.')} has no pattern")
        return found

    def keywords(self, key: str) -> tuple[str, ...]:
        """Take a header keyword or a list of them; () where there is none."""
        return tuple(_keyword(name) for name in self.texts(key))

    def _pattern(self, key: str) -> str:
        """Take a pattern: a text, or a number or a truth as it is."""
        value = self._table.pop(key)
        if not isinstance(value, str | int | float):
            self.refuse(key, value, "a text or a number is needed")
        return str(value)

    def numbers(self) -> dict[str, float]:
        return {name: self.take(name, float) for name in self.names()}

    def names(self) -> list[str]:
        return list(self._table)

    def done(self) -> None:
        """Raise InstrumentError where something is left that nobody knows."""
        for key, value in self._table.items():
            self.refuse(key, value, "there is no such key")

    def refuse(self, key: str, value: object, why: str) -> NoReturn:
        raise InstrumentError(f"{self._file}: {self._name}{key} = {value!r}: {why}")


def _keyword(name: str) -> str:
    """Return a header keyword as headers are asked for it; our own names are in small letters."""
    return name if name in KEYS else name.upper().removeprefix("HIERARCH ")


_KINDS: Final[Mapping[type, str]] = {
    str: "a text",
    float: "a number",
    int: "a whole number",
    dict: "a table",
    list: "a list",
}


def _instrument(table: _Table, source: str) -> Instrument:
    detector = table.table("detector")
    defaults = {name: detector.take(name, float) for name in ("gain", "read_noise", "saturation")}
    keys, strips = _keys(table.table("keys")), _strips(detector.table("strips"))
    instrument = Instrument(
        name=table.take("name", str),
        telescope=table.take("telescope", str),
        longitude_deg=_longitude(table),
        pixel_arcsec=detector.take("pixel_arcsec", float),
        chip_size=_size(detector),
        strips=strips,
        overscan_method=_overscan(detector, strips, keys),
        chips=_chips(table, defaults),
        recognise=tuple(row.patterns() for row in table.tables("recognise")),
        skip=tuple(row.patterns() for row in table.tables("skip", needed=False)),
        keys=keys,
        units=_units(table.table("units")),
        types=_types(table),
        modes=table.keywords("modes"),
        fringing=table.texts("fringing"),
        limits=_limits(table.table("limits")),
        minima=_minima(table.table("minima")),
        source=source,
    )
    detector.done()
    table.done()
    return instrument


def _longitude(table: _Table) -> float:
    value = table.take("longitude_deg", float)
    if abs(value) > _TURN:
        table.refuse("longitude_deg", value, "degrees to the east are needed, -360 to 360")
    return value


def _size(detector: _Table) -> tuple[int, int]:
    value = detector.take("chip_size", list)
    if len(value) != len("xy") or not all(type(item) is int and item > 0 for item in value):
        detector.refuse("chip_size", value, "two whole numbers are needed, x and y")
    return value[0], value[1]


def _overscan(detector: _Table, strips: Strips, keys: Mapping[str, tuple[str, ...]]) -> int:
    """Take the overscan method; where none is said, the first of METHODS for which there is a strip."""
    there = [name for name in METHODS if getattr(strips, name) or keys[name] or keys["trim_section"]]
    value = detector.take("overscan_method", int, METHODS[there[0]] if there else 0)
    if value not in _OVERSCAN_METHODS:
        detector.refuse("overscan_method", value, "it goes from 0 to 10")
    # As in dpu_recipes.ccd.overscan: each strip in turn.
    strip = (*_STRIPS, *_STRIPS, *_STRIPS)[value - 1]
    if value and strip not in there:
        detector.refuse("overscan_method", value, f"it reads {strip}: detector.strips has none, and no key tells of it")
    return value


def _strips(table: _Table) -> Strips:
    widths = {item.name: table.take(item.name, int, 0) for item in fields(Strips)}
    for name, width in widths.items():
        if width < 0:
            table.refuse(name, width, "a width is not negative")
    if widths["overscan_x"] and widths["skip"] >= widths["overscan_x"]:
        table.refuse("skip", widths["skip"], f"that leaves nothing of overscan_x = {widths['overscan_x']}")
    table.done()
    return Strips(**widths)


def _chips(table: _Table, defaults: Mapping[str, float]) -> tuple[Chip, ...]:
    chips: dict[str, Chip] = {}
    for row in table.tables("chips"):
        chip = Chip(
            name=row.take("name", str),
            aliases=row.texts("aliases"),
            column=row.take("column", float, 0.0),
            row=row.take("row", float, 0.0),
            rotation=_rotation(row),
            **{name: row.take(name, float, value) for name, value in defaults.items()},
        )
        if chip.name in chips:
            row.refuse("name", chip.name, "there are two chips of that name")
        row.done()
        chips[chip.name] = chip
    return tuple(chips.values())


def _rotation(row: _Table) -> int:
    value = row.take("rotation", int, 0)
    if value not in ROTATIONS:
        row.refuse("rotation", value, f"it is one of {', '.join(map(str, ROTATIONS))}, degrees counter-clockwise")
    return value


def _keys(table: _Table) -> dict[str, tuple[str, ...]]:
    found = {name: table.keywords(name) or default for name, default in KEYS.items()}
    table.done()
    return found


def _units(table: _Table) -> dict[str, str]:
    found = {}
    for name, allowed in UNITS.items():
        value = table.take(name, str, allowed[0])
        found[name] = known(name, value) or table.refuse(name, value, f"it is one of {', '.join(allowed)}")
    table.done()
    return found


def _types(table: _Table) -> tuple[TypeRule, ...]:
    rules = []
    for row in table.tables("types"):
        frame_class = row.take("class", str)
        if frame_class not in RAW_CLASSES:
            row.refuse("class", frame_class, f"it is not one of {', '.join(RAW_CLASSES)}")
        rules.append(TypeRule(frame_class=frame_class, when=row.table("when").patterns()))
        row.done()
    return tuple(rules)


def _limits(table: _Table) -> dict[str, dict[str, float]]:
    return {name: table.table(name).numbers() for name in table.names()}


def _minima(table: _Table) -> dict[str, int]:
    asked = {name: table.take(name, int) for name in table.names()}
    for name, value in asked.items():
        if value < 1:
            table.refuse(name, value, "at least one frame is needed")
    return {**MINIMA, **asked}
