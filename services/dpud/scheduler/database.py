"""Engines on the two databases that hold a journal, and what differs between them."""

from __future__ import annotations

from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

#: PostgreSQL ends what holds the writer's row and says nothing for so long: a scheduler that was stopped in the
#: middle of an append must not keep the next one out.
_IDLE_MS = 3_000
#: A statement that takes longer is broken off, and its append tried again.
_STATEMENT_MS = 5_000
#: A connection on which nothing arrives for so long is given up.
_SILENCE_S = 5

#: Connection lost, too many of them, ended for idling, broken off or going down: of PostgreSQL's states of an error.
_AWAY = ("08", "53300", "25P03", "57")

_EACH_SYNCED = ("synchronous=FULL",)
#: For who writes much beside the writer of a SQLite file, whose next commit makes this durable, too: no syncs of its
#: own, for which that one would have to wait, and the log is emptied here and not there.
_SYNCED_BY_OTHERS = ("synchronous=NORMAL", "wal_autocheckpoint=500")

_BEGIN = "BEGIN IMMEDIATE"
_NOW = {
    "sqlite": sa.text("(julianday('now') - 2440587.5) * 86400.0"),
    "postgresql": sa.text("extract(epoch FROM clock_timestamp())::double precision"),
}


def sqlite_engine(path: Path, settings: Sequence[str] = _EACH_SYNCED) -> sa.Engine:
    """Return an engine on a SQLite file: write-ahead log, a sync a commit, transactions that lock at their begin."""
    engine = sa.create_engine(
        f"sqlite:///{path}", poolclass=sa.pool.StaticPool, connect_args={"check_same_thread": False}
    )

    @sa.event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver must not begin transactions by itself: _on_begin does, and takes the write lock at once.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "busy_timeout=5000", *settings):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(_BEGIN)

    return engine


def postgres_engine(url: str) -> sa.Engine:
    """Return an engine on a PostgreSQL database: two connections, and no waiting without end.

    Raises ValueError where the URL is no PostgreSQL database's.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise ValueError("must be 'postgresql+psycopg://user@host/database'") from None
    if parsed.get_backend_name() != "postgresql":
        raise ValueError("must be 'postgresql+psycopg://user@host/database': no other database holds a journal")
    settings = {
        "idle_in_transaction_session_timeout": _IDLE_MS,
        "statement_timeout": _STATEMENT_MS,
        # The journal is the truth: whatever the server's own default is, a commit is on its disk.
        "synchronous_commit": "on",
    }
    return sa.create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=2,
        max_overflow=0,
        connect_args={
            "options": " ".join(f"-c {key}={value}" for key, value in settings.items()),
            "connect_timeout": _SILENCE_S,
            "keepalives_idle": 1,
            "keepalives_interval": 1,
            "keepalives_count": _SILENCE_S,
            "tcp_user_timeout": 1_000 * _SILENCE_S,
            "application_name": "dpu scheduler",
        },
    )


def open_engine(url: str) -> sa.Engine:
    """Return an engine on the database that the writer's URL names, for work beside it."""
    parsed = sa.make_url(url)
    if parsed.drivername == "sqlite":
        return sqlite_engine(Path(parsed.database or ""), _SYNCED_BY_OTHERS)
    return postgres_engine(url)


@contextmanager
def driving(engine: sa.Engine) -> Iterator[Any]:
    """Give the driver's own cursor, in a transaction: around a short one, SQLAlchemy takes twenty times its time.

    Raises DBAPIError, as a transaction of the engine does.
    """
    dialect = engine.dialect
    driver = dialect.loaded_dbapi
    connection = None
    try:
        connection = engine.raw_connection()
        with closing(connection.cursor()) as cursor:
            if dialect.name == "sqlite":
                cursor.execute(_BEGIN)
            yield cursor
            connection.commit()
    except driver.Error as error:
        if connection is not None and dialect.is_disconnect(error, connection.dbapi_connection, None):
            connection.invalidate(error)
        raise sa.exc.DBAPIError(None, None, error) from error
    finally:
        if connection is not None:
            # The pool takes back what was not committed.
            connection.close()


def spelled(engine: sa.Engine, statement: sa.ClauseElement) -> str:
    """Return a statement as the engine's driver takes it, with a mapping of its parameters."""
    dialect: Any = type(engine.dialect)
    paramstyle = "named" if engine.dialect.name == "sqlite" else "pyformat"
    return str(statement.compile(dialect=dialect(paramstyle=paramstyle)))


def is_away(error: sa.exc.DBAPIError) -> bool:
    """Return whether the database could not be reached, or broke off: asked again, it may do what it did not do."""
    # An error without a state was not the server's: the connection broke, or there was none.
    state = getattr(error.orig, "sqlstate", "not PostgreSQL") or ""
    return state == "" or state.startswith(_AWAY)


def now(engine: sa.Engine) -> sa.TextClause:
    """Return the database's own time as an expression, in seconds since 1970."""
    return _NOW[engine.dialect.name]
