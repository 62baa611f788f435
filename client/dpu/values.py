"""Option values on the wire: Python's own types there and back, whole numbers kept whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from dpu.errors import BadOption
from dpu_api.v1.job_pb2 import Value, ValueList, ValueMap

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"


#: Lists and maps in each other: who reads a message takes it for nonsense where it is nested a hundred times.
DEEPEST = 16


def to_value(plain: object) -> Value:
    """Return a Python value as a Value. Raises BadOption for what cannot travel."""
    return _value(plain, DEEPEST)


def to_map(plain: Mapping[str, object]) -> ValueMap:
    """Return a mapping as a ValueMap. Raises BadOption for what cannot travel."""
    return _map(plain, DEEPEST)


def _value(plain: object, levels: int) -> Value:
    """Return a value in which there are at most so many levels of lists and maps."""
    match plain:
        case None:
            return Value()
        case bool():
            return Value(bool_value=plain)
        case int():
            if not -(2**63) <= plain < 2**63:
                raise BadOption(f"{plain} is too long for a whole number of 64 bits")
            return Value(int_value=plain)
        case float():
            return Value(double_value=plain)
        case str():
            try:
                return Value(string_value=plain)
            except UnicodeEncodeError as error:
                raise BadOption(f"a text that is no Unicode cannot travel: {plain!r}") from error
        case Mapping():
            return Value(map_value=_map(plain, levels - 1))
        case Sequence() if not isinstance(plain, bytes | bytearray | memoryview):
            return Value(list_value=_list(plain, levels - 1))
        case _:
            raise BadOption(f"a value of type {type(plain).__name__} cannot travel: {plain!r}")


def _map(plain: Mapping[str, object], levels: int) -> ValueMap:
    _check(levels)
    return ValueMap(entries={str(key): _value(item, levels) for key, item in plain.items()})


def _list(plain: Sequence[object], levels: int) -> ValueList:
    _check(levels)
    return ValueList(values=[_value(item, levels) for item in plain])


def _check(levels: int) -> None:
    if levels < 0:
        raise BadOption(f"lists and maps in each other cannot travel deeper than {DEEPEST} levels")


def from_value(value: Value) -> Plain:
    """Return a Value as Python's own type."""
    match value.WhichOneof("kind"):
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case "string_value":
            return value.string_value
        case "list_value":
            return [from_value(item) for item in value.list_value.values]
        case "map_value":
            return from_map(value.map_value)
        case _:
            return None


def from_map(values: ValueMap) -> dict[str, Plain]:
    """Return a ValueMap as a dictionary, sorted by key (a map has no order on the wire)."""
    return {key: from_value(values.entries[key]) for key in sorted(values.entries)}
