"""Units in which headers give exposure times, gains and noises, and what one of each is in ours."""

from __future__ import annotations

import math
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from dpu_recipes import header as headers
from dpu_recipes.header import HeaderError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dpu_recipes.header import Header

_SECONDS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0, "h": 3600.0}
_COUNTS: Final = ("ADU", "e-")
#: By our name of a value, the units that a TOML may say, ours first.
UNITS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "exptime": tuple(_SECONDS),
        "gain": ("e-/ADU", "ADU/e-"),
        "read_noise": _COUNTS,
        "saturation": _COUNTS,
    }
)
#: Other ways of writing a unit, small letters.
_ALSO: Final = {
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("msec", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("usec", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("minute", "minutes"), "min"),
    **dict.fromkeys(("hour", "hours"), "h"),
    **dict.fromkeys(("e", "electron", "electrons"), "e-"),
    **dict.fromkeys(("dn", "count", "counts"), "ADU"),
}
_QUANTITY: Final = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*[\[(]?\s*([A-Za-z][^\])]*?)\s*[\])]?")


def seconds(header: Header, keys: Sequence[str], unit: str) -> float:
    """Return a time. Raises HeaderError; also where there is none."""
    value, said = _quantity(header, keys, "exptime", unit)
    return value * _SECONDS[said]


def gain(header: Header, keys: Sequence[str], unit: str, default: float) -> float:
    """Return e-/ADU; `default` where a header says none, or none that is positive. Raises HeaderError."""
    value, said = _quantity(header, keys, "gain", unit, default)
    if value <= 0:
        return default
    return 1 / value if said == "ADU/e-" else value


def counts(header: Header, keys: Sequence[str], name: str, unit: str, *, default: float, gain: float) -> float:
    """Return ADU; `default`, ADU, where a header says none, or none that is positive. Raises HeaderError.

    `name` is ours of the value; electrons are divided by `gain`.
    """
    if headers.find(header, keys)[1] is None:
        return default
    value, said = _quantity(header, keys, name, unit)
    if value <= 0:
        return default
    return value / gain if said == "e-" else value


def known(name: str, unit: str) -> str:
    """Return a unit as `UNITS` has it, however it is written; '' where a value of our `name` has none such."""
    parts = [_ALSO.get(part.strip().lower(), part.strip()) for part in unit.split("/")]
    written = "/".join(parts).lower()
    return next((item for item in UNITS[name] if item.lower() == written), "")


def _quantity(
    header: Header, keys: Sequence[str], name: str, unit: str, default: float | None = None
) -> tuple[float, str]:
    """Return a number and its unit: that beside it in its card ('300 ms'), else `unit`."""
    key, value = headers.find(header, keys)
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return headers.number(header, keys, default), unit
    said = known(name, found[2])
    if not said or not math.isfinite(float(found[1])):
        raise HeaderError(f"{key}={value!r}: its unit is none of {', '.join(UNITS[name])}")
    return float(found[1]), said
