"""The index: jobs, the objects in which their records lie, and their one writer."""

import sqlalchemy as sa
from alembic import op

revision = "index_0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite makes a key fast only when it is called INTEGER.
_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the three tables."""
    op.create_table(
        "log_writer",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "log_job",
        sa.Column("id", _BIG, primary_key=True, autoincrement=False),
        sa.Column("last", sa.Float, nullable=False),
        sa.Column("ended", sa.Integer, nullable=True),
    )
    op.create_table(
        "log_object",
        sa.Column("job", _BIG, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("log_object")
    op.drop_table("log_job")
    op.drop_table("log_writer")
