"""Option values on the wire: Python's own types there and back, whole numbers kept whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from dpu.errors import BadOption
from dpu_api.v1.job_pb2 import Value, ValueList, ValueMap

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"


def to_value(plain: object) -> Value:
    """Return a Python value as a Value. Raises BadOption for a type that cannot travel."""
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
            return Value(map_value=to_map(plain))
        case Sequence() if not isinstance(plain, bytes | bytearray | memoryview):
            return Value(list_value=ValueList(values=map(to_value, plain)))
        case _:
            raise BadOption(f"a value of type {type(plain).__name__} cannot travel: {plain!r}")


def to_map(plain: Mapping[str, object]) -> ValueMap:
    """Return a mapping as a ValueMap."""
    return ValueMap(entries={str(key): to_value(item) for key, item in plain.items()})


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
