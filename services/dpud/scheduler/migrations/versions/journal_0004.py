"""The words that find jobs of the history, and what jobs came to by day."""

import zlib

import sqlalchemy as sa
from alembic import op

from dpud.scheduler import codec, history_sql
from dpud.scheduler.model import Job
from dpud.scheduler.schema import history
from dpud.scheduler.totals import totals_of

revision = "journal_0004"
down_revision = "journal_0003"
branch_labels = None
depends_on = None

#: Jobs that are read at a time.
PAGE = 1_000


def upgrade() -> None:
    """Make the tables, and fill them from the history; by owner, jobs are found by their words from now on."""
    op.create_table(
        "job_word",
        sa.Column("project", sa.Text, primary_key=True),
        sa.Column("word", sa.Text, primary_key=True),
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job_day",
        sa.Column("project", sa.Text, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("sequence", sa.Text, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("finished", "failed", "cancelled", "tasks")),
        *(
            sa.Column(name, sa.Double, nullable=False)
            for name in ("waited_s", "longest_wait_s", "ran_s", "longest_run_s", "busy_s")
        ),
        sqlite_with_rowid=False,
    )
    op.drop_index("job_history_by_owner", "job_history")
    _fill(op.get_bind())


def _fill(connection: sa.Connection) -> None:
    last = 0
    while True:
        page = sa.select(history.c.id, history.c.body).where(history.c.id > last).order_by(history.c.id).limit(PAGE)
        jobs = [codec.load(Job, zlib.decompress(body)) for _, body in connection.execute(page)]
        if not jobs:
            return
        connection.execute(history_sql.MARK, [row for job in jobs for row in history_sql.marks_of(job)])
        connection.execute(history_sql.COUNT, history_sql.counts_of(totals_of(jobs)))
        last = jobs[-1].id


def downgrade() -> None:
    """Drop them."""
    op.create_index("job_history_by_owner", "job_history", ["project", "owner", "id"])
    op.drop_table("job_day")
    op.drop_table("job_word")
