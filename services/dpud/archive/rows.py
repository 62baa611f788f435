"""Records as rows of the catalogue's tables, and back."""

from __future__ import annotations

from dataclasses import fields
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from dpu_recipes import validity
from dpu_recipes.frames import Frame
from dpud.archive.records import Attempt, Level, Record
from dpud.archive.schema import FRAMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import sqlalchemy as sa

_FRAME = tuple(item.name for item in fields(Frame))
_MAPS = ("values", "parameters", "limits")
_OWN = ("project", "user", "source", "number", "code_digest", "published")
_PLACES = {name: place for place, name in enumerate(FRAMES.c.keys())}
_frame_of = itemgetter(*(_PLACES[name] for name in _FRAME))
_own_of = itemgetter(*(_PLACES[name] for name in _OWN))
_kept_of = itemgetter(*(_PLACES[name] for name in ("sequence", "privileges", "job", "task", "attempt")))


class Rows(NamedTuple):
    """What the tables are told of records."""

    frames: list[dict[str, Any]]
    names: list[dict[str, str]]
    links: list[dict[str, str]]
    objects: list[dict[str, str]]


def rows_of(records: Sequence[Record], digests: Mapping[str, str]) -> Rows:
    """Return the rows of records; `digests` are those of what they were made from, by identifier, where known."""
    return Rows(
        frames=[_row(record) for record in records],
        names=list(_names(records)),
        links=list(_links(records, digests)),
        objects=list(_objects(records)),
    )


def record_of(row: sa.Row[Any]) -> Record:
    """Return the record of a row of frames."""
    frame = dict(zip(_FRAME, _frame_of(row), strict=True))
    frame["inputs"] = tuple(frame["inputs"])
    sequence, privileges, job, *attempt = _kept_of(row)
    return Record(
        frame=Frame(**frame),
        attempt=None if job is None else Attempt(job, *attempt),
        sequence=sequence,
        privileges=Level(privileges),
        **dict(zip(_OWN, _own_of(row), strict=True)),
    )


def _row(record: Record) -> dict[str, Any]:
    frame = {name: getattr(record.frame, name) for name in _FRAME}
    frame |= {name: dict(getattr(record.frame, name)) for name in _MAPS}
    job, task, attempt = record.attempt or (None, None, None)
    return {
        **frame,
        **{name: getattr(record, name) for name in _OWN},
        "privileges": int(record.privileges),
        "audience": record.audience,
        "job": job,
        "task": task,
        "attempt": attempt,
    }


def _names(records: Sequence[Record]) -> Iterator[dict[str, str]]:
    for record in records:
        for name in sorted(validity.names_of(record.frame)):
            yield {"project": record.project, "id": record.frame.id, "name": name}


def _objects(records: Sequence[Record]) -> Iterator[dict[str, str]]:
    kinds = {(record.frame.frame_class, record.frame.instrument, record.frame.object) for record in records}
    for frame_class, instrument, name in sorted(kinds):
        if name:
            yield {"frame_class": frame_class, "instrument": instrument, "object": name}


def _links(records: Sequence[Record], digests: Mapping[str, str]) -> Iterator[dict[str, str]]:
    for record in records:
        for source in record.sources:
            yield {
                "project": record.project,
                "product": record.frame.id,
                "input": source,
                "digest": digests.get(source, ""),
            }
