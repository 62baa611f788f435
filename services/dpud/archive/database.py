"""The database of a catalogue, SQLite or PostgreSQL: its engine, and its two kinds of transaction."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, OperationalError

from dpu.errors import StorageFull, Unreachable
from dpud.hosting.settings import BadSetting

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How a URL of each kind begins.
_SQLITE, _POSTGRESQL = "sqlite", "postgresql+psycopg"
#: PostgreSQL: whoever writes holds this lock; the number is ours alone by chance.
_WRITER = 7_412_309_581
#: What PostgreSQL says of a disk that is full.
_DISK_FULL = "53100"


class Database:
    """One database; reading is of one moment, writing takes turns."""

    def __init__(self, url: sa.URL) -> None:
        self._sqlite = url.get_backend_name() == _SQLITE
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


def parse_url(text: str) -> sa.URL:
    """Return the URL of a database, checked. Raises BadSetting, which does not show a password."""
    try:
        url = sa.make_url(text)
    except ArgumentError:
        raise BadSetting(
            f"DPU_DATABASE must be a URL: '{_POSTGRESQL}://USER@HOST/DATABASE' or '{_SQLITE}:///PATH'"
        ) from None
    if url.drivername not in {_SQLITE, _POSTGRESQL}:
        raise BadSetting(
            f"DPU_DATABASE={url.render_as_string()!r}: must begin with '{_POSTGRESQL}://' or '{_SQLITE}:///'"
        )
    return url


def _on_sqlite(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(url, connect_args={"timeout": 30.0})

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        # The driver's own transactions begin late; ours begin below.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "mmap_size=268435456"):
            connection.execute(f"PRAGMA {pragma}").close()

    @sa.event.listens_for(engine, "begin")
    def _begun(connection: sa.Connection) -> None:
        # A writer takes its turn at once: a transaction that began by reading could not wait for it.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _on_postgresql(url: sa.URL) -> sa.Engine:
    # A connection that a restart of the server has broken is found out before it is used.
    # A single statement that reads needs no transaction around it, which would be two more journeys to the server.
    return sa.create_engine(url, isolation_level="AUTOCOMMIT", pool_pre_ping=True, pool_size=8, max_overflow=24)


def _is_full(error: BaseException | None) -> bool:
    if isinstance(error, sqlite3.Error):
        return error.sqlite_errorname.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN"))
    return getattr(error, "sqlstate", "") == _DISK_FULL
