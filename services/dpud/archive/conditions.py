"""Conditions on what is known of a frame, as somebody at the prompt writes them; and what they hold of."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from dpu.errors import BadOption, UnknownOption
from dpu_recipes.header import glob

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dpud.archive.records import Record, View

#: A value as one can compare it.
Comparable: TypeAlias = "str | int | float | bool | date | datetime"

#: What can be asked, and of which kind it is.
ATTRIBUTES: Final[Mapping[str, type]] = MappingProxyType(
    {
        "instrument": str,
        "chip": str,
        "filter": str,
        "object": str,
        "night": date,
        "date_obs": datetime,
        "exptime": float,
        "readout": str,
        "overscan": int,
        "file_name": str,
        "size": int,
        "timestamp_start": datetime,
        "timestamp_end": datetime,
        "is_valid": bool,
        "quality_flags": int,
        "creation_date": datetime,
        "user": str,
        "project": str,
        "privileges": int,
        "code_digest": str,
    }
)
#: Those that are not a frame's own.
_OF_RECORDS: Final = frozenset({"user", "project", "privileges", "code_digest"})


class Operator(StrEnum):
    """How an attribute is compared with a value."""

    EQUAL = "=="
    UNEQUAL = "!="
    LESS = "<"
    AT_MOST = "<="
    GREATER = ">"
    AT_LEAST = ">="
    LIKE = "like"  # a text with * and ?


#: Of the operators that databases and Python have in common, what they do.
COMPARE: Final[Mapping[Operator, Callable[[Any, Any], Any]]] = MappingProxyType(
    {
        Operator.EQUAL: operator.eq,
        Operator.UNEQUAL: operator.ne,
        Operator.LESS: operator.lt,
        Operator.AT_MOST: operator.le,
        Operator.GREATER: operator.gt,
        Operator.AT_LEAST: operator.ge,
    }
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """An attribute compared with a value of its kind."""

    attribute: str
    operator: Operator
    value: Comparable

    @classmethod
    def of(cls, attribute: str, how: Operator, value: object) -> Comparison:
        """Return a comparison of a value as it was given. Raises UnknownOption and BadOption."""
        kind = kind_of(attribute)
        if how is Operator.LIKE and kind is not str:
            raise BadOption(f"{attribute} is no text: only texts are like a pattern")
        return cls(attribute, how, _converted(attribute, kind, value))

    def holds(self, record: Record) -> bool:
        """Return whether it holds of a record."""
        found = value_of(record, self.attribute)
        if self.operator is Operator.LIKE:
            return glob(str(self.value), str(found))
        return bool(COMPARE[self.operator](found, self.value))


@dataclass(frozen=True, slots=True)
class AllOf:
    """Several conditions of which each holds."""

    parts: tuple[Condition, ...]

    def holds(self, record: Record) -> bool:
        """Return whether it holds of a record."""
        return all(part.holds(record) for part in self.parts)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Several conditions of which one holds at least."""

    parts: tuple[Condition, ...]

    def holds(self, record: Record) -> bool:
        """Return whether it holds of a record."""
        return any(part.holds(record) for part in self.parts)


Condition: TypeAlias = "Comparison | AllOf | AnyOf"

#: Holds of everything.
ALWAYS: Final = AllOf(())


def kind_of(attribute: str) -> type:
    """Return the kind of an attribute. Raises UnknownOption, which lists those that there are."""
    if attribute not in ATTRIBUTES:
        raise UnknownOption(f"frames have no {attribute!r} that can be asked; there is {', '.join(ATTRIBUTES)}")
    return ATTRIBUTES[attribute]


def value_of(record: Record, attribute: str) -> Comparable:
    """Return an attribute of a record."""
    found: Comparable = getattr(record if attribute in _OF_RECORDS else record.frame, attribute)
    return found


def of_user(view: View) -> Comparison:
    """Return what holds of frames that the view's user made or ingested."""
    return Comparison("user", Operator.EQUAL, view.user)


def of_project(view: View) -> Comparison:
    """Return what holds of frames of the view's own project."""
    return Comparison("project", Operator.EQUAL, view.project)


def _converted(attribute: str, kind: type, value: object) -> Comparable:
    wrong = BadOption(f"{attribute} cannot be compared with {value!r}: must be {_WANTED[kind]}")
    try:
        if kind is datetime:
            return _moment(value)
        if kind is date:
            return date.fromisoformat(str(value))
        if kind is not str and isinstance(value, int | float):
            return value != 0 if kind is bool else value
    except ValueError:
        raise wrong from None
    if kind is not str or not isinstance(value, str):
        raise wrong
    return value


def _moment(value: object) -> datetime:
    """Return a time of which UTC is meant where nothing else is said."""
    time = datetime.fromisoformat(str(value))
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


_WANTED: Mapping[type, str] = MappingProxyType(
    {
        str: "a text",
        int: "a number",
        float: "a number",
        bool: "0 or 1",
        date: "a date 'CCYY-MM-DD'",
        datetime: "a time, UTC, 'CCYY-MM-DDThh:mm:ss'",
    }
)
