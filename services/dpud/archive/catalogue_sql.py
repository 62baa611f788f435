"""The catalogue in a relational database, by SQLAlchemy Core: SQLite or PostgreSQL."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dpu.errors import InternalError
from dpu_recipes import validity
from dpu_recipes.frames import Frame
from dpu_recipes.night import parse_night
from dpud.archive import fence
from dpud.archive.catalogue import NEAREST, Change, refuse_gone, refuse_namesake, same_content
from dpud.archive.database import Database
from dpud.archive.records import Attempt, Position, Query, Record, View
from dpud.archive.schema import FENCES, FRAMES, NAMES, STORES, upgrade

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from dpud.archive.catalogue import Facet

_FRAME = tuple(item.name for item in fields(Frame))
_COLUMNS = FRAMES.c
#: A statement has at most so many parameters: SQLite's own limit is 32,766.
_BATCH = 500


class SqlCatalogue:
    """All ports of the catalogue over one database."""

    def __init__(self, url: sa.URL) -> None:
        """Open the catalogue, and make or upgrade it where needed. Raises StorageFull and Unreachable."""
        self._database = Database(url)
        with self._database.writing() as connection:
            upgrade(connection)

    @classmethod
    def on_file(cls, path: Path) -> SqlCatalogue:
        """Open the catalogue in a SQLite file."""
        return cls(sa.URL.create("sqlite", database=str(path)))

    def close(self) -> None:
        """Close the database's connections."""
        self._database.close()

    def mark(self) -> str:
        """Return the mark of the files that belong to this catalogue."""
        with self._database.reading() as connection:
            return connection.scalar(sa.select(STORES.c.mark)) or ""

    def set_mark(self, mark: str) -> None:
        """Carry another mark."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(STORES))
            connection.execute(sa.insert(STORES), {"mark": mark})

    def is_empty(self) -> bool:
        """Return whether there is no frame."""
        with self._database.reading() as connection:
            return connection.scalar(sa.select(_COLUMNS.sequence).limit(1)) is None

    def select(self, query: Query, *, after: Position | None = None, limit: int) -> list[Record]:
        """Return the next records of a query."""
        first = (_COLUMNS.task,) if query.only_job else (_COLUMNS.date_obs, _COLUMNS.chip)
        key = (*first, _COLUMNS.sequence)
        statement = sa.select(FRAMES).where(*self._fitting(query)).order_by(*key).limit(limit)
        if after is not None:
            begin = (after.first, after.sequence) if query.only_job else after
            statement = statement.where(sa.tuple_(*key) > sa.tuple_(*map(sa.literal, begin)))
        return self._records(statement)

    def counts(self, query: Query, by: Facet) -> dict[str, int]:
        """Return how many frames of a query there are."""
        column = _COLUMNS[by]
        statement = sa.select(column, sa.func.count()).where(*self._fitting(query)).group_by(column).order_by(column)
        with self._database.reading() as connection:
            return {str(value): count for value, count in connection.execute(statement)}

    def find(self, view: View, ids: Sequence[str]) -> list[Record]:
        """Return the records with these identifiers."""
        found: list[Record] = []
        for batch in _batches(ids):
            found += self._records(sa.select(FRAMES).where(_shown(view), _COLUMNS.id.in_(batch)))
        return found

    def calibrations(self, view: View, frame_class: str, frame: Frame) -> list[Record]:
        """Return what may serve a frame, and the nearest others."""
        same = sa.select(FRAMES).where(
            _shown(view),
            _COLUMNS.frame_class == frame_class,
            _COLUMNS.instrument == frame.instrument,
            _COLUMNS.chip == frame.chip,
            _COLUMNS.job.is_not(None),
        )
        serves = sa.or_(
            _COLUMNS.night == frame.night,
            sa.and_(_COLUMNS.timestamp_start <= frame.date_obs, _COLUMNS.timestamp_end > frame.date_obs),
        )
        time = _COLUMNS.date_obs
        others = same.where(sa.not_(serves)).limit(NEAREST)
        with self._database.moment() as connection:
            rows = [
                *connection.execute(same.where(serves).order_by(_COLUMNS.sequence)),
                *connection.execute(others.where(time < frame.date_obs).order_by(time.desc())),
                *connection.execute(others.where(time >= frame.date_obs).order_by(time)),
            ]
        return [_record(row) for row in rows]

    def unnamed(self, digests: Collection[str]) -> set[str]:
        """Return the digests that no record names."""
        with self._database.reading() as connection:
            return _unnamed(connection, digests)

    def add(self, records: Sequence[Record]) -> int:
        """Add raw frames."""
        with self._database.writing() as connection:
            known = {record.frame.id for record in _stored(connection, records, "id")}
            new = [record for record in records if record.frame.id not in known]
            for namesake in _stored(connection, new, "file_name"):
                raise refuse_namesake(namesake)
            if new:
                frames, names = rows_of(new)
                connection.execute(sa.insert(FRAMES), frames)
                connection.execute(sa.insert(NAMES), names)
            return len(new)

    def stage(self, record: Record) -> Change:
        """Add a product."""
        attempt = record.attempt
        if attempt is None:
            raise ValueError(f"{record.frame.frame_class} has no attempt that made it: only products are staged")
        with self._database.writing() as connection:
            numbered = sa.select(FRAMES).where(_of(attempt), _COLUMNS.number == record.number)
            if row := connection.execute(numbered).one_or_none():
                return Change([same_content(_record(row), record)], frozenset())
            freed = _settle(connection, fence.staged(_fence(connection, attempt), attempt))
            result = connection.execute(sa.insert(FRAMES), _row(record.evolve(published=False)))
            connection.execute(sa.insert(NAMES), list(_names([record])))
            key = result.inserted_primary_key
            if key is None:
                raise InternalError("the database gave no number to a row that it took")
            return Change([record.evolve(published=False, sequence=key[0])], freed)

    def publish(self, attempt: Attempt, *, commit: bool) -> Change:
        """Settle that an attempt ended well."""
        with self._database.writing() as connection:
            freed = _settle(connection, fence.published(_fence(connection, attempt), attempt, commit=commit))
            connection.execute(sa.update(FRAMES).where(_of(attempt)).values(published=commit))
            rows = connection.execute(sa.select(FRAMES).where(_of(attempt)).order_by(_COLUMNS.sequence))
            return Change([_record(row) for row in rows], freed)

    def discard(self, attempt: Attempt) -> Change:
        """Settle that an attempt counts for nothing."""
        with self._database.writing() as connection:
            freed = _settle(connection, fence.discarded(_fence(connection, attempt), attempt))
            return Change([], freed | _forget(connection, _of(attempt)))

    def expire(self, before: datetime) -> Change:
        """Forget what nobody published."""
        old = sa.and_(_COLUMNS.published.is_(False), _COLUMNS.creation_date < before)
        with self._database.writing() as connection:
            gone = [_record(row) for row in connection.execute(sa.select(FRAMES).where(old))]
            return Change(gone, _forget(connection, old))

    def amend(self, record: Record) -> Record:
        """Take over the validity of a product."""
        same = sa.and_(_COLUMNS.project == record.project, _COLUMNS.id == record.frame.id)
        said = {"is_valid": record.frame.is_valid, "timestamp_end": record.frame.timestamp_end}
        with self._database.writing() as connection:
            connection.execute(sa.update(FRAMES).where(same).values(said))
            row = connection.execute(sa.select(FRAMES).where(same)).one_or_none()
        if row is None:
            raise refuse_gone(record)
        return _record(row)

    def _fitting(self, query: Query) -> Iterator[sa.ColumnElement[bool]]:
        yield _shown(query.view)
        if query.only_job:
            yield _COLUMNS.job == query.view.job
        if query.frame_class:
            yield _COLUMNS.frame_class == query.frame_class
        if query.source:
            yield _COLUMNS.source == query.source
        yield from self._selected(query)

    def _selected(self, query: Query) -> Iterator[sa.ColumnElement[bool]]:
        selection = query.selection
        if selection.file_names:
            names = sorted(map(validity.stem, selection.file_names))
            named = sa.select(NAMES.c.id).where(NAMES.c.project == query.view.project, NAMES.c.name.in_(names))
            yield _COLUMNS.id.in_(named)
            return
        if selection.identity:
            yield _COLUMNS.identity == selection.identity
            yield _COLUMNS.job.is_not(None)
        if selection.instrument:
            yield _COLUMNS.instrument == selection.instrument
        if selection.night:
            yield _COLUMNS.night == parse_night(selection.night)
        if selection.chips:
            yield _COLUMNS.chip.in_(selection.chips)
        if query.frame_class not in validity.IGNORING_FILTER_AND_OBJECT:
            yield from self._lit(query)

    def _lit(self, query: Query) -> Iterator[sa.ColumnElement[bool]]:
        """Give what is asked of frames that saw light."""
        asked = []
        if query.selection.filter:
            asked.append(_COLUMNS.filter == query.selection.filter)
        if query.selection.object:
            asked.append(self._like(_COLUMNS.object, query.selection.object))
        if asked and not query.frame_class:
            # No index serves an OR, so it is there only when frames of all classes are asked for.
            yield sa.or_(_COLUMNS.frame_class.in_(validity.IGNORING_FILTER_AND_OBJECT), sa.and_(*asked))
        else:
            yield from asked

    def _like(self, column: sa.ColumnElement[str], pattern: str) -> sa.ColumnElement[bool]:
        if not set(pattern) & set("*?"):
            return column == pattern
        if self._database.engine.dialect.name == "sqlite":
            # SQLite's LIKE takes capitals and small letters for the same; its GLOB does not.
            return column.op("GLOB", is_comparison=True)(pattern.replace("[", "[[]"))
        escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return column.like(escaped.replace("*", "%").replace("?", "_"), escape="\\")

    def _records(self, statement: sa.Select[Any]) -> list[Record]:
        with self._database.reading() as connection:
            return [_record(row) for row in connection.execute(statement)]


def _shown(view: View) -> sa.ColumnElement[bool]:
    seen: sa.ColumnElement[bool] = _COLUMNS.published.is_(True)
    if view.job:
        seen = sa.or_(seen, _COLUMNS.job == view.job)
    return sa.and_(_COLUMNS.project == view.project, seen)


def _of(attempt: Attempt) -> sa.ColumnElement[bool]:
    return sa.and_(_COLUMNS.job == attempt.job, _COLUMNS.task == attempt.task, _COLUMNS.attempt == attempt.attempt)


def _stored(connection: sa.Connection, records: Sequence[Record], by: str) -> Iterator[Record]:
    """Give the records that have the same identifier, or file name, in the same project."""
    projects = {record.project for record in records}
    for batch in _batches([getattr(record.frame, by) for record in records]):
        same = sa.select(FRAMES).where(_COLUMNS.project.in_(projects), _COLUMNS[by].in_(batch))
        yield from (_record(row) for row in connection.execute(same))


def _fence(connection: sa.Connection, attempt: Attempt) -> fence.Fence | None:
    found = connection.execute(
        sa.select(FENCES.c.attempt, FENCES.c.state).where(FENCES.c.job == attempt.job, FENCES.c.task == attempt.task)
    ).one_or_none()
    return fence.Fence(attempt._replace(attempt=found.attempt), fence.State(found.state)) if found else None


def _settle(connection: sa.Connection, changed: fence.Fence) -> frozenset[str]:
    """Write a fence, and forget what older attempts staged; return the digests that this freed."""
    job, task, newest = changed.newest
    same = sa.and_(FENCES.c.job == job, FENCES.c.task == task)
    state = {"attempt": newest, "state": str(changed.state)}
    if connection.execute(sa.update(FENCES).where(same).values(state)).rowcount == 0:
        connection.execute(sa.insert(FENCES), {"job": job, "task": task, **state})
    older = (_COLUMNS.job == job, _COLUMNS.task == task, _COLUMNS.attempt < newest, _COLUMNS.published.is_(False))
    return _forget(connection, sa.and_(*older))


def _forget(connection: sa.Connection, which: sa.ColumnElement[bool]) -> frozenset[str]:
    gone = set(connection.scalars(sa.select(_COLUMNS.digest).where(which)))
    if gone:
        keys = sa.select(_COLUMNS.project, _COLUMNS.id).where(which)
        connection.execute(sa.delete(NAMES).where(sa.tuple_(NAMES.c.project, NAMES.c.id).in_(keys)))
        connection.execute(sa.delete(FRAMES).where(which))
    return frozenset(_unnamed(connection, gone - {""}))


def _unnamed(connection: sa.Connection, digests: Collection[str]) -> set[str]:
    named: set[str] = set()
    for batch in _batches(list(digests)):
        named |= set(connection.scalars(sa.select(_COLUMNS.digest).where(_COLUMNS.digest.in_(batch))))
    return set(digests) - named


def _batches(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


def rows_of(records: Sequence[Record]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Return what the tables of frames and of names are told of records."""
    return [_row(record) for record in records], list(_names(records))


def _names(records: Sequence[Record]) -> Iterator[dict[str, str]]:
    for record in records:
        for name in sorted(validity.names_of(record.frame)):
            yield {"project": record.project, "id": record.frame.id, "name": name}


def _row(record: Record) -> dict[str, Any]:
    frame = {name: getattr(record.frame, name) for name in _FRAME}
    frame |= {"values": dict(record.frame.values), "parameters": dict(record.frame.parameters)}
    job, task, attempt = record.attempt or (None, None, None)
    return {
        **frame,
        **{name: getattr(record, name) for name in _OWN},
        "job": job,
        "task": task,
        "attempt": attempt,
    }


def _record(row: sa.Row[Any]) -> Record:
    values = row._mapping  # noqa: SLF001 (SQLAlchemy's public name for it)
    frame = Frame(**{name: values[name] for name in _FRAME} | {"inputs": tuple(values["inputs"])})
    attempt = None if row.job is None else Attempt(row.job, row.task, row.attempt)
    return Record(frame=frame, attempt=attempt, sequence=row.sequence, **{name: values[name] for name in _OWN})


_OWN = ("project", "user", "source", "number", "code_digest", "published")
