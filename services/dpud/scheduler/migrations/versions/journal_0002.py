"""Until when the writer may write, by the database's clock."""

import sqlalchemy as sa
from alembic import op

revision = "journal_0002"
down_revision = "journal_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; a writer of before has had its time."""
    op.add_column("writer", sa.Column("expires", sa.Double, nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("writer", "expires")
