"""What a job's log consists of: records, each one fact, and their bytes on disk."""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, TypeAlias

#: Where an attempt has its place: (task, attempt).
Key: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Opened:
    """The log service heard of the job for the first time."""

    time_us: int
    project: str


@dataclass(frozen=True, slots=True)
class Lines:
    """Consecutive lines of one attempt arrived."""

    time_us: int
    task: int
    attempt: int
    first: int
    count: int
    #: The lines themselves, a serialised LogBatch.
    batch: bytes


@dataclass(frozen=True, slots=True)
class TaskClosed:
    """The scheduler said that an attempt ended after `lines` lines; -1: nobody knows how many."""

    time_us: int
    task: int
    attempt: int
    #: A number of dpu_api.v1.TaskState.
    state: int
    lines: int
    patience_us: int


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """Followers were told that an attempt is over, and whether all of its lines are here."""

    time_us: int
    task: int
    attempt: int
    state: int
    lines: int
    complete: bool
    missing: str


@dataclass(frozen=True, slots=True)
class JobClosed:
    """The scheduler said that the job ended."""

    time_us: int
    #: A number of dpu_api.v1.JobState.
    state: int


@dataclass(frozen=True, slots=True)
class TaskLabelled:
    """The worker said what tells a task from its neighbours: a chip, or an exposure and a chip."""

    time_us: int
    task: int
    label: str


@dataclass(frozen=True, slots=True)
class Owned:
    """The worker said whose job it is."""

    time_us: int
    user: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """The job's owner, or an operator, deleted its lines."""

    time_us: int
    user: str


Record: TypeAlias = Opened | Lines | TaskClosed | TaskEnded | JobClosed | TaskLabelled | Owned | Deleted


def weight(record: Record) -> int:
    """Return how far the record moves a reader's offset: a line or a task's end counts one, the rest is not read."""
    match record:
        case Lines():
            return record.count
        case TaskEnded():
            return 1
        case _:
            return 0


@dataclass(frozen=True, slots=True)
class _Form:
    """How one kind of record is written: a number, whole numbers of 64 bits, then what has no fixed size."""

    number: int
    kind: type[Any]
    tail: type[str | bytes] | None = None

    @property
    def layout(self) -> struct.Struct:
        return struct.Struct(f"<B{len(fields(self.kind)) - bool(self.tail)}q")


# A number, once on a disk, keeps its meaning for ever.
_FORMS = (
    _Form(1, Opened, str),
    _Form(2, Lines, bytes),
    _Form(3, TaskClosed),
    _Form(4, TaskEnded, str),
    _Form(5, JobClosed),
    _Form(6, TaskLabelled, str),
    _Form(7, Owned, str),
    _Form(8, Deleted, str),
)
_BY_KIND = {
    form.kind: (form.number, form.tail, form.layout.pack, attrgetter(*(each.name for each in fields(form.kind))))
    for form in _FORMS
}
_BY_NUMBER = {form.number: (form, form.layout) for form in _FORMS}


def encode(record: Record) -> bytes:
    """Return the record as bytes."""
    number, tail, pack, values_of = _BY_KIND[type(record)]
    values = values_of(record)
    if tail is None:
        return pack(number, *values)
    end: bytes = values[-1].encode() if tail is str else values[-1]
    return pack(number, *values[:-1]) + end


def decode(body: bytes) -> Record:
    """Return the record that `encode` wrote. Raises ValueError where a newer version wrote it."""
    if not body or body[0] not in _BY_NUMBER:
        raise ValueError(f"a record of unknown kind {body[:1].hex() or 'nothing'}: a newer version wrote it")
    form, layout = _BY_NUMBER[body[0]]
    values: list[Any] = list(layout.unpack_from(body))[1:]
    if form.kind is TaskEnded:
        values[-1] = bool(values[-1])
    if form.tail is not None:
        rest = body[layout.size :]
        values.append(rest if form.tail is bytes else rest.decode())
    return form.kind(*values)  # type: ignore[no-any-return]  # one of the classes of Record
