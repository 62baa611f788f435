"""The catalogue in a relational database, by SQLAlchemy Core: SQLite or PostgreSQL."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from dpu.errors import InternalError
from dpud.archive import fence
from dpud.archive.catalogue import Change, refuse_gone, refuse_namesake, refuse_used, same_content
from dpud.archive.database import Database
from dpud.archive.questions import fitting, is_sorted
from dpud.archive.records import Attempt, Family, Link, Position, Query, Record, View, position
from dpud.archive.rows import record_of, rows_of
from dpud.archive.schema import FENCES, FRAMES, LINKS, NAMES, OBJECTS, STORES, upgrade
from dpud.archive.serving import SERVING, UNFIT, about
from dpud.archive.shown import FOUND, SHOWN, by_audience, seeing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from dpu_recipes.frames import Frame
    from dpud.archive.catalogue import Facet

_COLUMNS = FRAMES.c
#: A statement has at most so many parameters: SQLite's own limit is 32,766.
_BATCH = 500

# To make a statement takes longer than to ask it: what each file that comes in needs is made once.
_HERE = _COLUMNS.project.in_(sa.bindparam("projects", expanding=True))
_AMONG: sa.BindParameter[str] = sa.bindparam("among", expanding=True)
_OF_IDS = sa.select(_COLUMNS.id).where(_HERE, _COLUMNS.id.in_(_AMONG))
_OF_FILE_NAMES = sa.select(FRAMES).where(_HERE, _COLUMNS.file_name.in_(_AMONG))
_ADD_FRAMES, _ADD_NAMES, _ADD_LINKS = map(sa.insert, (FRAMES, NAMES, LINKS))
#: Both databases have it, each as its own dialect's.
_KNOW = {
    "sqlite": sqlite.insert(OBJECTS).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(OBJECTS).on_conflict_do_nothing(),
}


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

    @property
    def database(self) -> Database:
        """Where it is, for what is noted of files beside their records."""
        return self._database

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
        if query.first is not None:
            column = _COLUMNS[query.first.attribute]
            best = column.desc() if query.first.greatest else column.asc()
            bests = sa.select(FRAMES).where(*self._fitting(query)).order_by(best, _COLUMNS.sequence)
            return self._records(bests.limit(limit), seeing(query.view))
        first = (_COLUMNS.task,) if query.only_job else (_COLUMNS.date_obs, _COLUMNS.chip)
        key = (*first, _COLUMNS.sequence)
        wanted = [*fitting(query, self._dialect)]
        if after is not None:
            begin = (after.first, after.sequence) if query.only_job else after
            wanted.append(sa.tuple_(*key) > sa.tuple_(*map(sa.literal, begin)))
        if is_sorted(query):
            shown = sa.select(FRAMES).where(SHOWN, *wanted).order_by(*key)
            return self._records(shown.limit(limit), seeing(query.view))
        firsts = [sa.select(FRAMES).where(of, *wanted).order_by(*key).limit(limit) for of in by_audience(query.view)]
        found = self._all_of(firsts, seeing(query.view))
        return sorted(found, key=lambda record: position(record, only_job=query.only_job))[:limit]

    def counts(self, query: Query, by: Facet) -> dict[str, int]:
        """Return how many frames of a query there are."""
        column = _COLUMNS[by]
        statement = sa.select(column, sa.func.count()).where(*self._fitting(query)).group_by(column).order_by(column)
        with self._database.reading() as connection:
            return {str(value): count for value, count in connection.execute(statement, seeing(query.view))}

    def find(self, view: View, ids: Sequence[str]) -> list[Record]:
        """Return the records with these identifiers."""
        # One statement sees one moment by itself.
        seeing = self._database.reading if len(ids) <= _BATCH else self._database.moment
        with seeing() as connection:
            return list(_found(connection, view, ids))

    def calibrations(self, view: View, frame_class: str, frame: Frame, *, nearest: bool = False) -> list[Record]:
        """Return what may serve a frame; with `nearest`, what lies nearest to it and may not."""
        asked = seeing(view) | about(frame_class, frame)
        if not nearest:
            return sorted(self._records(SERVING, asked), key=_arrival)
        found = sorted(self._all_of(UNFIT, asked), key=_when)
        split = bisect_left(found, frame.date_obs, key=_when)
        return [*reversed(found[:split]), *found[split:]]

    def unnamed(self, digests: Collection[str]) -> set[str]:
        """Return the digests that no record names."""
        with self._database.reading() as connection:
            return _unnamed(connection, digests)

    def add(self, records: Sequence[Record]) -> int:
        """Add raw frames."""
        with self._database.writing() as connection:
            known = {row.id for row in _stored(connection, _OF_IDS, records, "id")}
            new = [record for record in records if record.frame.id not in known]
            for namesake in _stored(connection, _OF_FILE_NAMES, new, "file_name"):
                raise refuse_namesake(record_of(namesake))
            if new:
                rows = rows_of(new, {})
                connection.execute(_ADD_FRAMES, rows.frames)
                connection.execute(_ADD_NAMES, rows.names)
                _know(connection, rows.objects)
            return len(new)

    def stage(self, record: Record) -> Change:
        """Add a product."""
        attempt = record.attempt
        if attempt is None:
            raise ValueError(f"{record.frame.frame_class} has no attempt that made it: only products are staged")
        with self._database.writing() as connection:
            numbered = sa.select(FRAMES).where(_of(attempt), _COLUMNS.number == record.number)
            if row := connection.execute(numbered).one_or_none():
                return Change([same_content(record_of(row), record)], frozenset())
            freed = _settle(connection, fence.staged(_fence(connection, attempt), attempt))
            rows = rows_of([record.evolve(published=False)], _digests(connection, record.sources))
            result = connection.execute(_ADD_FRAMES, rows.frames[0])
            connection.execute(_ADD_NAMES, rows.names)
            _know(connection, rows.objects)
            if rows.links:
                connection.execute(_ADD_LINKS, rows.links)
            key = result.inserted_primary_key
            if key is None:
                raise InternalError("the database gave no number to a row that it took")
            return Change([record.evolve(published=False, sequence=key[0])], freed)

    def publish(self, attempt: Attempt, *, commit: bool) -> Change:
        """Settle that an attempt ended well."""
        with self._database.writing() as connection:
            freed = _settle(connection, fence.published(_fence(connection, attempt), attempt, commit=commit))
            rows = connection.execute(sa.select(FRAMES).where(_of(attempt)).order_by(_COLUMNS.sequence))
            records = [record_of(row).evolve(published=commit) for row in rows]
            for record in records:
                seen = {"published": commit, "audience": record.audience}
                connection.execute(sa.update(FRAMES).where(_COLUMNS.sequence == record.sequence).values(seen))
            return Change(records, freed)

    def discard(self, attempt: Attempt) -> Change:
        """Settle that an attempt counts for nothing."""
        with self._database.writing() as connection:
            freed = _settle(connection, fence.discarded(_fence(connection, attempt), attempt))
            return Change([], freed | _forget(connection, _of(attempt)))

    def expire(self, before: datetime) -> Change:
        """Forget what nobody published."""
        old = sa.and_(_COLUMNS.published.is_(False), _COLUMNS.creation_date < before)
        with self._database.writing() as connection:
            gone = [record_of(row) for row in connection.execute(sa.select(FRAMES).where(old))]
            return Change(gone, _forget(connection, old))

    def highest_job(self) -> int:
        """Return the highest job."""
        with self._database.reading() as connection:
            return connection.scalar(sa.select(sa.func.max(FENCES.c.job))) or 0

    def amend(self, record: Record) -> Record:
        """Take over the validity and the level of a frame."""
        said = {"is_valid": record.frame.is_valid, "timestamp_end": record.frame.timestamp_end}
        seen = {"privileges": int(record.privileges), "audience": record.audience}
        with self._database.writing() as connection:
            connection.execute(sa.update(FRAMES).where(_same(record)).values(said | seen))
            row = connection.execute(sa.select(FRAMES).where(_same(record))).one_or_none()
        if row is None:
            raise refuse_gone(record)
        return record_of(row)

    def withdraw(self, record: Record) -> Change:
        """Forget a product that nothing was made from."""
        name = record.frame.id
        users = sa.select(FRAMES).join(
            LINKS, sa.and_(LINKS.c.project == _COLUMNS.project, LINKS.c.product == _COLUMNS.id)
        )
        with self._database.writing() as connection:
            if used := connection.execute(users.where(LINKS.c.input == name).order_by(_COLUMNS.sequence)).all():
                raise refuse_used(record, [record_of(row) for row in used])
            gone = [record_of(row) for row in connection.execute(sa.select(FRAMES).where(_same(record)))]
            return Change(gone, _forget(connection, _same(record)))

    def ancestry(self, view: View, frame_id: str) -> Family:
        """Return a frame and all that it was made from."""
        return self._family(view, frame_id, LINKS.c.product, lambda link: link.input)

    def progeny(self, view: View, frame_id: str) -> Family:
        """Return a frame and all that was made from it."""
        return self._family(view, frame_id, LINKS.c.input, lambda link: link.product).without_strangers()

    def _family(self, view: View, frame_id: str, near: sa.Column[str], far: Callable[[Link], str]) -> Family:
        """Follow links from a frame, generation by generation, as long as there is something to be seen."""
        records: dict[str, Record] = {}
        links: dict[Link, None] = {}
        waiting = [frame_id]
        with self._database.moment() as connection:
            while waiting:
                found = {record.frame.id: record for record in _found(connection, view, waiting)}
                records |= found
                new = dict.fromkeys(_linked(connection, near, list(found)))
                links |= new
                waiting = [name for name in dict.fromkeys(map(far, new)) if name not in records]
        return Family(list(records.values()), list(links))

    @property
    def _dialect(self) -> str:
        return self._database.engine.dialect.name

    def _fitting(self, query: Query) -> list[sa.ColumnElement[bool]]:
        return [SHOWN, *fitting(query, self._dialect)]

    def _all_of(self, statements: Iterable[sa.Select[Any]], asked: Mapping[str, Any]) -> list[Record]:
        """Return what several statements find, all of one moment; a database at the end of a line is asked once."""
        if self._dialect != "sqlite":
            return self._records(sa.union_all(*statements), asked)
        with self._database.moment() as connection:
            return [record_of(row) for statement in statements for row in connection.execute(statement, asked).all()]

    def _records(self, statement: sa.Select[Any] | sa.CompoundSelect[Any], asked: Mapping[str, Any]) -> list[Record]:
        with self._database.reading() as connection:
            return [record_of(row) for row in connection.execute(statement, asked).all()]


def _found(connection: sa.Connection, view: View, ids: Sequence[str]) -> Iterator[Record]:
    for batch in _batches(ids):
        yield from map(record_of, connection.execute(FOUND, seeing(view) | {"ids": batch}).all())


def _linked(connection: sa.Connection, near: sa.Column[str], ids: Sequence[str]) -> Iterator[Link]:
    columns = sa.select(LINKS.c.product, LINKS.c.input, LINKS.c.digest)
    for batch in _batches(ids):
        rows = connection.execute(columns.where(near.in_(batch)).order_by(LINKS.c.product, LINKS.c.input))
        yield from (Link(*row) for row in rows)


def _digests(connection: sa.Connection, ids: Sequence[str]) -> dict[str, str]:
    """Return the digests of the files of frames, in whatever project: of one identifier there is one content."""
    return {
        name: digest
        for batch in _batches(ids)
        for name, digest in connection.execute(sa.select(_COLUMNS.id, _COLUMNS.digest).where(_COLUMNS.id.in_(batch)))
    }


def _know(connection: sa.Connection, objects: list[dict[str, str]]) -> None:
    """Note objects that are not known yet."""
    if objects:
        connection.execute(_KNOW[connection.dialect.name], objects)


def _arrival(record: Record) -> int:
    return record.sequence


def _when(record: Record) -> datetime:
    return record.frame.date_obs


def _same(record: Record) -> sa.ColumnElement[bool]:
    return sa.and_(_COLUMNS.project == record.project, _COLUMNS.id == record.frame.id)


def _of(attempt: Attempt) -> sa.ColumnElement[bool]:
    return sa.and_(_COLUMNS.job == attempt.job, _COLUMNS.task == attempt.task, _COLUMNS.attempt == attempt.attempt)


def _stored(
    connection: sa.Connection, same: sa.Select[Any], records: Sequence[Record], by: str
) -> Iterator[sa.Row[Any]]:
    """Give the rows that have what records have `by`, in the same project."""
    projects = list({record.project for record in records})
    for batch in _batches([getattr(record.frame, by) for record in records]):
        yield from connection.execute(same, {"projects": projects, "among": batch}).all()


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
        connection.execute(sa.delete(LINKS).where(sa.tuple_(LINKS.c.project, LINKS.c.product).in_(keys)))
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
