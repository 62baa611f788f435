"""The journal's tables, and the steps that bring older ones up to date."""

from __future__ import annotations

import sqlalchemy as sa

from dpud.hosting.database import NewerTables, upgrade
from dpud.scheduler.journal import UnreadableJournal

#: The newest migration.
VERSION = "journal_0005"

_tables = sa.MetaData()

#: One row: who writes. `expires` is in seconds since 1970 by the database's clock.
writer = sa.Table(
    "writer",
    _tables,
    sa.Column("id", sa.Integer),
    sa.Column("epoch", sa.BigInteger),
    sa.Column("format", sa.Integer),
    sa.Column("expires", sa.Double),
)
groups = sa.Table(
    "event_group",
    _tables,
    sa.Column("number", sa.BigInteger),
    sa.Column("epoch", sa.BigInteger),
    sa.Column("body", sa.LargeBinary),
)
history = sa.Table(
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
#: Their tasks, so many in a row from the number of the first on.
tasks = sa.Table(
    "job_task",
    _tables,
    sa.Column("id", sa.BigInteger),
    sa.Column("first", sa.Integer),
    sa.Column("body", sa.LargeBinary),
)
#: By which words of a project's jobs each is found.
marks = sa.Table(
    "job_word",
    _tables,
    sa.Column("project", sa.Text),
    sa.Column("word", sa.Text),
    sa.Column("id", sa.BigInteger),
)
#: What the jobs came to that ended on a day.
days = sa.Table(
    "job_day",
    _tables,
    sa.Column("project", sa.Text),
    sa.Column("day", sa.Integer),
    sa.Column("owner", sa.Text),
    sa.Column("sequence", sa.Text),
    *(sa.Column(name, sa.BigInteger) for name in ("finished", "failed", "cancelled", "tasks")),
    *(sa.Column(name, sa.Double) for name in ("waited_s", "longest_wait_s", "ran_s", "longest_run_s", "busy_s")),
)
snapshots = sa.Table(
    "snapshot",
    _tables,
    sa.Column("number", sa.BigInteger),
    sa.Column("part", sa.Integer),
    sa.Column("parts", sa.Integer),
    sa.Column("body", sa.LargeBinary),
)


def migrate(connection: sa.Connection) -> None:
    """Bring the tables to the newest version. Raises UnreadableJournal where they are newer than this software."""
    try:
        upgrade(connection, "dpud.scheduler:migrations", VERSION)
    except NewerTables as error:
        raise UnreadableJournal(
            f"the journal's tables are at {str(error)!r}, which this version does not know: upgrade"
        ) from error
