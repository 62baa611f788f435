"""What a header says: values found under one of several keys, matched with patterns, read as dates and numbers."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Header: TypeAlias = "Mapping[str, Any]"

#: Modified Julian Date 0, and what a Julian Date has more.
_MJD_ORIGIN = datetime(1858, 11, 17, tzinfo=UTC)
_JD_MORE = 2_400_000.5

_COMPARISON = re.compile(r"(<=|>=|<|>)\s*([-+0-9.eE]+)")
#: Dates as FITS had them before 1999; a CCD took none before the sixties.
_OLD_DATE = re.compile(r"(\d\d)/(\d\d)/([6-9]\d)(?=T|$)")
#: With slashes, the year first.
_SLASHED_DATE = re.compile(r"(\d{4})/(\d\d)/(\d\d)(?=[T ]|$)")
_SEXAGESIMAL = re.compile(r"([-+]?)(\d+)[: hd]+(\d+)[: m']+(\d+(?:\.\d*)?)")


class HeaderError(ValueError):
    """A header lacks a value or holds one that makes no sense; the message names key and value."""


def find(header: Header, keys: Sequence[str]) -> tuple[str, Any]:
    """Return the first of `keys` that has a value, and the value; ('', None) where none has."""
    for key in keys:
        value = header.get(key)
        if isinstance(value, str):
            value = value.strip()
        if isinstance(value, bool | int | float | str) and value != "":
            return key, value
    return "", None


def text(header: Header, keys: Sequence[str], default: str = "") -> str:
    """Return the value under one of `keys` as a text, blanks at its ends taken off."""
    _, value = find(header, keys)
    return default if value is None else str(value)


def number(header: Header, keys: Sequence[str], default: float | None = None) -> float:
    """Return the value under one of `keys` as a finite number. Raises HeaderError."""
    key, value = find(header, keys)
    if value is None:
        if default is None:
            raise HeaderError(f"has none of {', '.join(keys) or 'no key'}")
        return default
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise HeaderError(f"{key}={value!r} is not a finite number")
    return found


def whole(header: Header, keys: Sequence[str], default: int) -> int:
    """Return the value under one of `keys` as a whole number. Raises HeaderError."""
    found = number(header, keys, default)
    if found != int(found):
        raise HeaderError(f"{find(header, keys)[0]}={found!r} is not a whole number")
    return int(found)


def pair(header: Header, keys: Sequence[str]) -> tuple[int, int] | None:
    """Return two positive whole numbers under one of `keys` ('2 2', '2,2', '2x2'), None where there is no key."""
    key, value = find(header, keys)
    if value is None:
        return None
    found = re.fullmatch(r"(\d+)(?:[ ,xX]+(\d+))?", str(value))
    if not found:
        raise HeaderError(f"{key}={value!r} is not a pair of whole numbers such as '2 2'")
    return int(found[1]), int(found[2] or found[1])


def angle(header: Header, keys: Sequence[str], *, hours: bool = False) -> float | None:
    """Return degrees from a number or from 'dd:mm:ss' (`hours`: that text counts hours); None where unreadable.

    Positions serve to find standard fields: an exposure without a good one is still an exposure.
    """
    _, value = find(header, keys)
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str) and (parts := _SEXAGESIMAL.fullmatch(value)):
        sign = -1.0 if parts[1] == "-" else 1.0
        degrees = sign * (int(parts[2]) + int(parts[3]) / 60 + float(parts[4]) / 3600)
        return degrees * 15 if hours else degrees
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def moment(header: Header, keys: Sequence[str], clock: Sequence[str] = ()) -> datetime:
    """Return an instant, UTC, from an ISO text; a day without a time gets that under one of `clock`.

    'DD/MM/YY', as before 1999, is a day of 19YY; between day and time may be a blank. Raises HeaderError.
    """
    key, value = find(header, keys)
    if value is None:
        raise HeaderError(f"has no start of the exposure: none of {', '.join(keys)}")
    written = _SLASHED_DATE.sub(r"\1-\2-\3", _OLD_DATE.sub(r"19\3-\2-\1", str(value))).replace(" ", "T", 1)
    if "T" not in written and (time := text(header, clock)):
        written = f"{written}T{time}"
    try:
        found = datetime.fromisoformat(written)
    except ValueError:
        raise HeaderError(f"{key}={value!r} is not a date such as '2000-04-28T23:15:00.123'") from None
    if "T" not in written:
        raise HeaderError(f"{key}={value!r} is a date without a time of day")
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def from_julian(key: str, days: float) -> datetime:
    """Return the instant of a Modified Julian Date, or of a Julian Date, under `key`. Raises HeaderError."""
    try:
        return _MJD_ORIGIN + timedelta(days=days - _JD_MORE if days > _JD_MORE else days)
    except OverflowError:
        raise HeaderError(f"{key}={days!r} is no Julian Date of this age") from None


def glob(pattern: str, value: str) -> bool:
    """Return whether `value` fits a pattern with * and ?; all other characters stand for themselves."""
    expression = "".join({"*": ".*", "?": "."}.get(letter) or re.escape(letter) for letter in pattern)
    return re.fullmatch(expression, value, re.DOTALL) is not None


def fits(value: Any, pattern: str) -> bool:
    """Return whether a header's value fits one of the alternatives of `pattern`, separated by '|'.

    An alternative is a comparison with a number ('<= 0.01'), a number, which equals any way of writing it
    ('0' and 0.0), or a text with * and ?, case of letters aside.
    """
    return value is not None and any(_fits(value, item.strip()) for item in pattern.split("|"))


def fits_any(header: Header, groups: Sequence[Mapping[str, str]]) -> bool:
    """Return whether a header fits every pattern, by keyword, of one of the groups."""
    return any(all(fits(find(header, [key])[1], pattern) for key, pattern in group.items()) for group in groups)


def _fits(value: Any, pattern: str) -> bool:
    if comparison := _COMPARISON.fullmatch(pattern):
        return _compare(value, comparison[1], float(comparison[2]))
    if isinstance(value, bool):
        return pattern.upper() in ({"T", "TRUE"} if value else {"F", "FALSE"})
    if isinstance(value, int | float):
        try:
            return float(value) == float(pattern)
        except ValueError:
            return glob(pattern, str(value))
    return glob(pattern.upper(), str(value).strip().upper())


def _compare(value: Any, sign: str, limit: float) -> bool:
    try:
        found = float(value)
    except ValueError:
        return False
    match sign:
        case "<=":
            return found <= limit
        case ">=":
            return found >= limit
        case "<":
            return found < limit
        case _:
            return found > limit
