"""The tasks of jobs in the history, apart from the jobs."""

import sqlalchemy as sa
from alembic import op

revision = "journal_0005"
down_revision = "journal_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; jobs that left the memory before have their tasks in their own row."""
    op.create_table(
        "job_task",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("first", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    """Drop it, and with it the tasks of jobs that left the memory since."""
    op.drop_table("job_task")
