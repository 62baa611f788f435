"""Records as rows of the catalogue's tables, and back."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from dpu_recipes import validity
from dpu_recipes.frames import Frame
from dpud.archive.records import Attempt, Level, Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import sqlalchemy as sa

_FRAME = tuple(item.name for item in fields(Frame))
_MAPS = ("values", "parameters", "limits")
_OWN = ("project", "user", "source", "number", "code_digest", "published")


class Rows(NamedTuple):
    """What the tables are told of records."""

    frames: list[dict[str, Any]]
    names: list[dict[str, str]]
    links: list[dict[str, str]]


def rows_of(records: Sequence[Record], digests: Mapping[str, str]) -> Rows:
    """Return the rows of records; `digests` are those of what they were made from, by identifier, where known."""
    return Rows([_row(record) for record in records], list(_names(records)), list(_links(records, digests)))


def record_of(row: sa.Row[Any]) -> Record:
    """Return the record of a row of frames."""
    values = row._mapping  # noqa: SLF001 (SQLAlchemy's public name for it)
    frame = Frame(**{name: values[name] for name in _FRAME} | {"inputs": tuple(values["inputs"])})
    attempt = None if row.job is None else Attempt(row.job, row.task, row.attempt)
    own = {name: values[name] for name in _OWN}
    return Record(frame=frame, attempt=attempt, sequence=row.sequence, privileges=Level(row.privileges), **own)


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


def _links(records: Sequence[Record], digests: Mapping[str, str]) -> Iterator[dict[str, str]]:
    for record in records:
        for source in record.sources:
            yield {
                "project": record.project,
                "product": record.frame.id,
                "input": source,
                "digest": digests.get(source, ""),
            }
