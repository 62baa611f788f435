"""Databases of services, SQLite or PostgreSQL: their URLs, their engines, and what brings their tables up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dpud.hosting.settings import BadSetting

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

SQLITE, POSTGRESQL = "sqlite", "postgresql+psycopg"
#: How the URL of each begins and goes on, for messages.
_FORMS = {SQLITE: f"'{SQLITE}:///PATH'", POSTGRESQL: f"'{POSTGRESQL}://USER@HOST/DATABASE'"}

#: Takes the lock of a writer at once: a transaction that began by reading could not wait for it.
AT_ONCE = "BEGIN IMMEDIATE"


class NewerTables(Exception):
    """The tables are of a version that this software does not know; its text is that version."""


def parse_url(text: str, drivers: Sequence[str] = (POSTGRESQL, SQLITE)) -> sa.URL:
    """Return the URL of DPU_DATABASE, with the driver that is ours. Raises BadSetting, which shows no password."""
    forms = " or ".join(_FORMS[driver] for driver in drivers)
    try:
        url = sa.make_url(text)
    except sa.exc.ArgumentError:
        raise BadSetting(f"DPU_DATABASE is no URL of a database: must be {forms}") from None
    for driver in drivers:
        if url.get_backend_name() == driver.partition("+")[0]:
            return url.set(drivername=driver)
    raise BadSetting(f"DPU_DATABASE={url.render_as_string()!r}: must be {forms}")


def _at_once(_connection: sa.Connection) -> str:
    return AT_ONCE


def sqlite_engine(
    url: sa.URL, pragmas: Sequence[str] = (), *, begin: Callable[[sa.Connection], str] = _at_once, **options: Any
) -> sa.Engine:
    """Return an engine on a SQLite file: write-ahead log, a sync a commit unless `pragmas` say otherwise.

    `begin` is what each transaction begins with.
    """
    engine = sa.create_engine(url, **options)

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        # The driver must not begin transactions by itself, which it does late: _begun does.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", *pragmas):
            connection.execute(f"PRAGMA {pragma}").close()

    @sa.event.listens_for(engine, "begin")
    def _begun(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin(connection))

    return engine


def sole_connection(url: sa.URL, pragmas: Sequence[str] = ()) -> sa.Engine:
    """Return an engine on a SQLite file with one connection, for one thread at a time, which writes."""
    return sqlite_engine(
        url,
        ("busy_timeout=5000", *pragmas),
        poolclass=sa.pool.StaticPool,
        connect_args={"check_same_thread": False},
    )


def postgresql_engine(
    url: sa.URL, service: str, settings: Mapping[str, object], *, silence: Mapping[str, int] | None = None
) -> sa.Engine:
    """Return an engine on a PostgreSQL database: two connections, with settings of the server's for each.

    A server that does not take a connection within 5 s is away; `silence` says of one that did, in libpq's words, when.
    """
    return sa.create_engine(
        url,
        pool_size=2,
        max_overflow=0,
        connect_args={
            # What is written is the truth: whatever the server's own default is, a commit is on its disk.
            "options": " ".join(f"-c {key}={value}" for key, value in {"synchronous_commit": "on", **settings}.items()),
            "connect_timeout": 5,
            "application_name": f"dpu {service}",
            **(silence or {}),
        },
    )


def upgrade(connection: sa.Connection, steps: str, newest: str, *, version_table: str = "alembic_version") -> None:
    """Bring tables to the newest version by the steps of a package, in the connection's own transaction.

    Raises NewerTables.
    """
    found = None
    if sa.inspect(connection).has_table(version_table):
        version = sa.table(version_table, sa.column("version_num"))
        found = connection.scalar(sa.select(version.c.version_num))
    if found == newest:
        return
    # Only now: loading it takes a quarter of a second, and tables are rarely new.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", steps)
    known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise NewerTables(found)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
