"""Events and jobs as JSON and back, by their annotations.

A value becomes the list of its fields: fields that were added later, at the end and with a default, may be missing.
"""

from __future__ import annotations

import binascii
import json
import types
import zlib
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from dpud.scheduler.events import JOURNALED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dpud.scheduler.events import Event

T = TypeVar("T")
#: Of the journal and of the history; a reader of another refuses them.
FORMAT = 1
_SHORT = 4096

_KINDS = {number: kind for kind, number in JOURNALED.items()}


def dump_events(events: Iterable[Event]) -> bytes:
    """Return the journaled ones among the events as one text."""
    rows = [[JOURNALED[type(event)], *_row(event)] for event in events if type(event) in JOURNALED]
    return _json(rows) if rows else b""


def load_events(body: bytes) -> list[Event]:
    """Return the events that `dump_events` wrote."""
    return [_loader(_KINDS[row[0]])(row[1:]) for row in json.loads(body)]


def dump(record: Any) -> bytes:
    """Return a dataclass as text."""
    return _json(_row(record))


def compressed(body: bytes) -> bytes:
    """Return a body as zlib packs it; a short one with small tables: to clear large ones takes ten times as long."""
    if len(body) > _SHORT:
        return zlib.compress(body, 1)
    packer = zlib.compressobj(1, zlib.DEFLATED, wbits=12, memLevel=4)
    return packer.compress(body) + packer.flush()


def _json(value: Any) -> bytes:
    return _ENCODER.encode(value).encode()


def load(kind: type[T], body: bytes) -> T:
    """Return the `kind` that `dump` wrote."""
    loader: Any = _loader
    value: T = loader(kind)(json.loads(body))
    return value


@cache
def _getter(kind: Any) -> Callable[[Any], tuple[Any, ...]]:
    names = [field.name for field in fields(kind)]
    if len(names) == 1:
        return lambda record: (getattr(record, names[0]),)
    return attrgetter(*names)


def _row(record: Any) -> tuple[Any, ...]:
    kind: Any = type(record)
    return _getter(kind)(record)


def _other(value: Any) -> Any:
    """Return what JSON cannot hold itself as something that it can."""
    if isinstance(value, bytes):
        return _text(value)
    if is_dataclass(value):
        return [_text(item) if isinstance(item, bytes) else item for item in _row(value)]
    raise TypeError(f"{type(value).__name__} is not journaled")


def _text(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).decode("ascii")


_ENCODER = json.JSONEncoder(default=_other, separators=(",", ":"), check_circular=False)


@cache
def _loader(hint: Any) -> Callable[[Any], Any]:
    """Return what makes a value of the annotated type from its JSON."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        inner = _loader(next(kind for kind in arguments if kind is not types.NoneType))
        return lambda data: None if data is None else inner(data)
    if origin in {tuple, list}:
        item = _loader(arguments[0])
        return lambda data: origin(map(item, data))
    if hint is bytes:
        return binascii.a2b_base64
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    if isinstance(hint, type) and (is_dataclass(hint) or hasattr(hint, "_fields")):
        return _record_loader(hint)
    return _same


def _same(data: Any) -> Any:
    return data


def _record_loader(kind: Any) -> Callable[[Any], Any]:
    """Return what makes a dataclass or a named tuple from the list of its fields."""
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)] if is_dataclass(kind) else list(kind._fields)
    loaders = [_loader(hints[name]) for name in names]
    changing = [(position, loader) for position, loader in enumerate(loaders) if loader is not _same]

    def load(data: list[Any]) -> Any:
        """Make a value from its row, which is not used again."""
        for position, loader in changing:
            if position < len(data):
                data[position] = loader(data[position])
        return kind(*data)

    return load
