"""Engines on the two databases that hold a journal, and what differs between them."""

from __future__ import annotations

from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dpud.hosting.database import AT_ONCE, POSTGRESQL, SQLITE, parse_url, postgresql_engine, sole_connection

if TYPE_CHECKING:
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

#: For who writes much beside the writer of a SQLite file, whose next commit makes this durable, too: no syncs of its
#: own, for which that one would have to wait, and the log is emptied here and not there.
_SYNCED_BY_OTHERS = ("synchronous=NORMAL", "wal_autocheckpoint=500")

_NOW = {
    "sqlite": sa.text("(julianday('now') - 2440587.5) * 86400.0"),
    "postgresql": sa.text("extract(epoch FROM clock_timestamp())::double precision"),
}


def sqlite_engine(path: Path, settings: Sequence[str] = ()) -> sa.Engine:
    """Return an engine on a SQLite file: a sync a commit unless `settings` say otherwise."""
    return sole_connection(sa.URL.create(SQLITE, database=str(path)), settings)


def postgres_engine(url: str) -> sa.Engine:
    """Return an engine on a PostgreSQL database that holds a journal, and waits nowhere without end.

    Raises BadSetting where the URL is no PostgreSQL database's.
    """
    settings = {"idle_in_transaction_session_timeout": _IDLE_MS, "statement_timeout": _STATEMENT_MS}
    silence = {
        "keepalives_idle": 1,
        "keepalives_interval": 1,
        "keepalives_count": _SILENCE_S,
        "tcp_user_timeout": 1_000 * _SILENCE_S,
    }
    return postgresql_engine(parse_url(url, [POSTGRESQL]), "scheduler", settings, silence=silence)


def open_engine(url: str) -> sa.Engine:
    """Return an engine on the database that the writer's URL names, for work beside it."""
    parsed = sa.make_url(url)
    if parsed.drivername == SQLITE:
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
                cursor.execute(AT_ONCE)
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
