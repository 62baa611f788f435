"""Which objects of a bucket hold which job's records: tables in PostgreSQL or SQLite, with one writer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from dpu.errors import Unreachable
from dpud.hosting.database import SQLITE, NewerTables, postgresql_engine, sole_connection, upgrade
from dpud.logs.store import Held

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: The newest migration.
VERSION = "index_0001"

_tables = sa.MetaData()
_writer = sa.Table("log_writer", _tables, sa.Column("id", sa.Integer), sa.Column("epoch", sa.BigInteger))
_jobs = sa.Table(
    "log_job",
    _tables,
    sa.Column("id", sa.BigInteger),
    sa.Column("last", sa.Float),
    sa.Column("ended", sa.Integer),
)
_objects = sa.Table(
    "log_object",
    _tables,
    sa.Column("job", sa.BigInteger),
    sa.Column("number", sa.Integer),
    sa.Column("start", sa.BigInteger),
    sa.Column("key", sa.Text),
    sa.Column("size", sa.BigInteger),
)
#: A statement that takes longer is broken off, and the lines are sent again.
_STATEMENT_MS = 10_000
# SQLite has the lock since the begin and ignores FOR UPDATE; PostgreSQL takes it here.
_LOCK = sa.select(_writer.c.epoch).with_for_update()


class Superseded(Exception):
    """Another log service has taken over the index: this one must end."""


class UnreadableIndex(Exception):
    """The index was written by a newer version."""


@dataclass(frozen=True, slots=True)
class Row:
    """One object: where it stands among those of its job, the offset at which it begins, its name and length."""

    job: int
    number: int
    start: int
    key: str
    size: int

    def values(self) -> dict[str, Any]:
        """Return it by column."""
        return {"job": self.job, "number": self.number, "start": self.start, "key": self.key, "size": self.size}


def engine_of(url: sa.URL) -> sa.Engine:
    """Return an engine on the database of an index."""
    if url.drivername == SQLITE:
        return sole_connection(url)
    return postgresql_engine(url, "logs", {"statement_timeout": _STATEMENT_MS})


class Index:
    """The tables behind an engine; for one thread at a time. Calls raise Unreachable where the database is away."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._epoch = 0

    def open(self) -> None:
        """Bring the tables up to date and become the writer. Raises UnreadableIndex or Unreachable."""
        try:
            with self._engine.begin() as connection:
                _migrate(connection)
                epoch = connection.scalar(_LOCK)
                if epoch is None:
                    connection.execute(sa.insert(_writer).values(id=1, epoch=1))
                else:
                    connection.execute(sa.update(_writer).values(epoch=epoch + 1))
                self._epoch = (epoch or 0) + 1
        except DBAPIError as error:
            raise _away(error) from error

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def add(self, rows: Sequence[Row], now: float) -> None:
        """Add objects, of several jobs, in one transaction."""
        jobs = {row.job for row in rows}

        def change(connection: sa.Connection) -> None:
            found = connection.execute(sa.update(_jobs).where(_jobs.c.id.in_(jobs)).values(last=now))
            if found.rowcount < len(jobs):
                known = set(connection.scalars(sa.select(_jobs.c.id).where(_jobs.c.id.in_(jobs))))
                connection.execute(sa.insert(_jobs), [{"id": job, "last": now} for job in jobs - known])
            connection.execute(sa.insert(_objects), [row.values() for row in rows])

        self._write(change)

    def replace(self, old: Sequence[Row], new: Row) -> None:
        """Put one object in the place of several."""
        numbers = [row.number for row in old]

        def change(connection: sa.Connection) -> None:
            connection.execute(
                sa.delete(_objects).where(_objects.c.job == new.job).where(_objects.c.number.in_(numbers))
            )
            connection.execute(sa.insert(_objects), new.values())

        self._write(change)

    def mark_ended(self, job: int, state: int) -> None:
        """Note how a job ended."""
        self._write(
            lambda connection: connection.execute(sa.update(_jobs).where(_jobs.c.id == job).values(ended=state))
        )

    def forget(self, job: int) -> None:
        """Forget a job and its objects."""

        def change(connection: sa.Connection) -> None:
            connection.execute(sa.delete(_objects).where(_objects.c.job == job))
            connection.execute(sa.delete(_jobs).where(_jobs.c.id == job))

        self._write(change)

    def objects(self, job_id: int) -> list[Row]:
        """Return the objects of a job in order."""
        wanted = sa.select(_objects).where(_objects.c.job == job_id).order_by(_objects.c.number)
        return [Row(each.job, each.number, each.start, each.key, each.size) for each in self._read(wanted)]

    def jobs(self) -> dict[int, Held]:
        """Return the jobs that are here."""
        return {each.id: Held(each.last, each.ended) for each in self._read(sa.select(_jobs))}

    def _read(self, wanted: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        try:
            with self._engine.begin() as connection:
                return connection.execute(wanted).all()
        except DBAPIError as error:
            raise _away(error) from error

    def _write(self, change: Callable[[sa.Connection], object]) -> None:
        """Change something in one transaction, as the one writer. Raises Superseded."""
        try:
            with self._engine.begin() as connection:
                if connection.scalar(_LOCK) != self._epoch:
                    raise Superseded("another log service writes to this index now: this one ends")
                change(connection)
        except DBAPIError as error:
            raise _away(error) from error


def _away(error: DBAPIError) -> Unreachable:
    return Unreachable(f"the index of the logs took nothing: {str(error.orig).strip()}: keep the lines and try again")


def _migrate(connection: sa.Connection) -> None:
    """Bring the tables to the newest version. Raises UnreadableIndex where they are newer than this software."""
    try:
        upgrade(connection, "dpud.logs:migrations", VERSION, version_table="log_version")
    except NewerTables as error:
        raise UnreadableIndex(
            f"the index of the logs is at {str(error)!r}, which this version does not know: upgrade"
        ) from error
