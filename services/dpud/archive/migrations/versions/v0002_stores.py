"""The mark of the files that belong to a catalogue."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table("stores", sa.Column("mark", _WORDS, primary_key=True))


def downgrade() -> None:
    """Take it away."""
    op.drop_table("stores")
