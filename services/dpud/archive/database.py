"""The database of a catalogue, SQLite or PostgreSQL: its engine, and its two kinds of transaction."""

from __future__ import annotations

import select
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import InvalidatePoolError, OperationalError

from dpu.errors import StorageFull, Unreachable
from dpud.hosting.database import AT_ONCE, SQLITE, sqlite_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

#: PostgreSQL: whoever writes holds this lock; the number is ours alone by chance.
_WRITER = 7_412_309_581
#: What PostgreSQL says of a disk that is full.
_DISK_FULL = "53100"


class Database:
    """One database; reading is of one moment, writing takes turns."""

    def __init__(self, url: sa.URL) -> None:
        self._sqlite = url.get_backend_name() == SQLITE
        self.engine = _on_sqlite(url) if self._sqlite else _on_postgresql(url)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection whose statements each see a moment. Raises Unreachable."""
        with self._refusing(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def moment(self) -> Iterator[sa.Connection]:
        """Give a connection that sees one moment until the block ends. Raises Unreachable."""
        with self._refusing(), self._connected("REPEATABLE READ") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give a connection in the one writing transaction of this moment. Raises StorageFull and Unreachable."""
        # A snapshot that was taken before its turn came would not show what the turn before has written.
        with self._refusing(), self._connected("READ COMMITTED", writes=True) as connection, connection.begin():
            if not self._sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITER)))
            yield connection

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    def _connected(self, isolation: str, *, writes: bool = False) -> sa.Connection:
        """Return a connection; SQLite's transactions are isolated whatever one asks."""
        options = {"writes": writes} if self._sqlite else {"isolation_level": isolation}
        return self.engine.connect().execution_options(**options)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turn what a database refuses inside the block into errors of ours."""
        try:
            yield
        except OperationalError as error:
            if _is_full(error.orig):
                raise StorageFull(f"{self.engine.url.database}: {error.orig}: nothing was stored") from error
            if self._sqlite:
                raise
            said = " ".join(str(error.orig).split())
            raise Unreachable(f"the archive's database {self.engine.url.database!r} gave no answer: {said}") from error


def _on_sqlite(url: sa.URL) -> sa.Engine:
    return sqlite_engine(
        url,
        ("foreign_keys=ON", "mmap_size=268435456"),
        begin=lambda connection: AT_ONCE if connection.get_execution_options().get("writes") else "BEGIN",
        connect_args={"timeout": 30.0},
    )


def _on_postgresql(url: sa.URL) -> sa.Engine:
    # A single statement that reads needs no transaction around it, which would be two more journeys to the server.
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", pool_size=8, max_overflow=24)

    @sa.event.listens_for(engine, "checkout")
    def _taken(connection: psycopg.Connection, _record: object, _pool: object) -> None:
        # To ask whether the server is there is as long a journey as most questions. One that ends says so to those who
        # ask nothing, and of a connection that is cut there is the end to be read.
        if connection.closed or _has_news(connection):
            raise InvalidatePoolError

    return engine


def _has_news(connection: psycopg.Connection) -> bool:
    """Return whether there is something to read that nobody asked for."""
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    return bool(waiting.poll(0))


def _is_full(error: BaseException | None) -> bool:
    if isinstance(error, sqlite3.Error):
        return error.sqlite_errorname.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN"))
    return getattr(error, "sqlstate", "") == _DISK_FULL
