"""The journal in a database: SQLite in a file (WAL, a sync a commit)."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from dpud.scheduler import codec
from dpud.scheduler.journal import AppendFailed, Query, Superseded, UnreadableJournal
from dpud.scheduler.model import Job
from dpud.scheduler.reserve import Reserve

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from dpud.scheduler.events import Event

#: Kept back beside the journal, so that what runs can end when the disk is full.
RESERVE_BYTES = 64 * 1024 * 1024
#: Groups read at once in a replay.
_PAGE = 1_000

_tables = sa.MetaData()
_writer = sa.Table(
    "writer", _tables, sa.Column("id", sa.Integer), sa.Column("epoch", sa.BigInteger), sa.Column("format", sa.Integer)
)
_groups = sa.Table(
    "event_group",
    _tables,
    sa.Column("number", sa.BigInteger),
    sa.Column("epoch", sa.BigInteger),
    sa.Column("body", sa.LargeBinary),
)
_history = sa.Table(
    "job_history",
    _tables,
    sa.Column("id", sa.BigInteger),
    sa.Column("project", sa.Text),
    sa.Column("owner", sa.Text),
    sa.Column("sequence", sa.Text),
    sa.Column("state", sa.Integer),
    sa.Column("ended", sa.Float),
    sa.Column("body", sa.LargeBinary),
)

# SQLite has the lock since the begin and ignores FOR UPDATE; other databases take it here.
_LOCK = sa.select(_writer.c.epoch).with_for_update()
_INSERT = sa.insert(_groups)
_RETIRE = sa.insert(_history)


def sqlite_engine(path: Path) -> sa.Engine:
    """Return an engine on a SQLite file: write-ahead log, a sync a commit, transactions that lock at their begin."""
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.pool.StaticPool)

    @sa.event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver must not begin transactions by itself: _on_begin does, and takes the write lock at once.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


class SqlJournal:
    """A journal in the database behind an engine."""

    def __init__(self, engine: sa.Engine, reserve: Reserve | None = None) -> None:
        self._engine = engine
        self._reserve = reserve
        self._epoch = 0
        self._next = 1

    @classmethod
    def open_file(cls, path: Path, reserve_bytes: int = RESERVE_BYTES) -> SqlJournal:
        """Open the journal in a SQLite file, made where there is none, and become its writer.

        Raises UnreadableJournal, or AppendFailed where the disk takes nothing.
        """
        journal = cls(sqlite_engine(path), Reserve(path.with_suffix(".reserve"), reserve_bytes))
        try:
            journal.begin()
        except BaseException:
            journal.close()
            raise
        return journal

    def begin(self) -> None:
        """Bring the tables up to date and become the writer."""
        try:
            with self._engine.begin() as connection:
                _migrate(connection)
                self._epoch = _become_writer(connection)
                self._next = 1 + (connection.scalar(sa.select(sa.func.max(_groups.c.number))) or 0)
        except DBAPIError as error:
            raise AppendFailed(f"the journal cannot be opened: {error.orig}") from error
        if self._reserve:
            self._reserve.take()

    def replay(self) -> Iterator[Sequence[Event]]:
        """Yield all groups that were ever appended, in order."""
        last = 0
        while True:
            with self._engine.begin() as connection:
                wanted = sa.select(_groups.c.number, _groups.c.body).where(_groups.c.number > last)
                rows = connection.execute(wanted.order_by(_groups.c.number).limit(_PAGE)).all()
            if not rows:
                return
            for last, body in rows:  # noqa: B007 (the next page begins behind the last one)
                yield codec.load_events(zlib.decompress(body))

    def append(self, events: Sequence[Event], retired: Iterable[Job] = ()) -> None:
        """Make a group durable in one transaction; on a full disk, in the room that was kept back."""
        body = codec.dump_events(events)
        past = [_past(job) for job in retired]
        if not body and not past:
            return
        row = {"number": self._next, "epoch": self._epoch, "body": zlib.compress(body, 1)}
        try:
            self._write(row, past)
        except DBAPIError as error:
            if not (self._reserve and self._reserve.give_up()):
                raise AppendFailed(f"the journal took nothing: {error.orig}") from error
            self._write_again(row, past)
        self._next += 1

    def _write(self, row: dict[str, Any], past: list[dict[str, Any]]) -> None:
        with self._engine.begin() as connection:
            if connection.scalar(_LOCK) != self._epoch:
                raise Superseded
            connection.execute(_INSERT, row)
            if past:
                connection.execute(_RETIRE, past)

    def _write_again(self, row: dict[str, Any], past: list[dict[str, Any]]) -> None:
        try:
            self._write(row, past)
        except DBAPIError as error:
            raise AppendFailed(f"the journal took nothing, even in its reserve: {error.orig}") from error

    @property
    def roomy(self) -> bool:
        """Whether the reserve is there, or could be taken again."""
        return self._reserve is None or self._reserve.take()

    def history(self, query: Query, limit: int) -> list[Job]:
        """Return retired jobs, newest first, at most `limit`."""
        wanted = sa.select(_history.c.body).where(*_conditions(query)).order_by(_history.c.id.desc()).limit(limit)
        with self._engine.begin() as connection:
            return [codec.load(Job, zlib.decompress(body)) for (body,) in connection.execute(wanted)]

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()


def _past(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "project": job.project,
        "owner": job.user,
        "sequence": job.sequence,
        "state": int(job.state),
        "ended": job.ended,
        "body": zlib.compress(codec.dump(job), 1),
    }


def _conditions(query: Query) -> Iterator[sa.ColumnElement[bool]]:
    yield _history.c.project == query.project
    yield _history.c.ended > query.ended_after
    if query.ids:
        yield _history.c.id.in_(query.ids)
    if query.user:
        yield _history.c.owner == query.user
    if query.states:
        yield _history.c.state.in_([int(state) for state in query.states])
    if query.sequence:
        yield _history.c.sequence == query.sequence
    if query.before:
        yield _history.c.id < query.before


def _migrate(connection: sa.Connection) -> None:
    """Bring the tables to the newest version. Raises UnreadableJournal where they are newer than this software."""
    config = Config()
    config.set_main_option("script_location", "dpud.scheduler:migrations")
    script = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    if current == script.get_current_head():
        return
    if current is not None and current not in {step.revision for step in script.walk_revisions()}:
        raise UnreadableJournal(f"the journal's tables are at {current!r}, which this version does not know: upgrade")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _become_writer(connection: sa.Connection) -> int:
    """Return the new epoch: from now on no older writer can append."""
    found = connection.execute(sa.select(_writer.c.epoch, _writer.c.format)).one_or_none()
    if found is None:
        connection.execute(sa.insert(_writer).values(id=1, epoch=1, format=codec.FORMAT))
        return 1
    if found.format != codec.FORMAT:
        raise UnreadableJournal(
            f"the journal has format {found.format}, and this version reads {codec.FORMAT}: "
            "use the version that wrote it"
        )
    connection.execute(sa.update(_writer).values(epoch=found.epoch + 1))
    return int(found.epoch) + 1
