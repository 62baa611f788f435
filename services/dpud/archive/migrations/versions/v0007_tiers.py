"""Which files lie in the cold tier, and when each was asked for last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables; let the index by digest tell how much there is."""
    op.create_table(
        "frozen",
        sa.Column("digest", _WORDS, primary_key=True),
        sa.Column("stored", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "uses",
        sa.Column("digest", _WORDS, primary_key=True),
        sa.Column("day", sa.Date, nullable=False),
    )
    op.drop_index("frames_digest", "frames")
    op.create_index("frames_digest", "frames", ["digest", "project", "size"])


def downgrade() -> None:
    """Take them away."""
    op.drop_index("frames_digest", "frames")
    op.create_index("frames_digest", "frames", ["digest"])
    op.drop_table("uses")
    op.drop_table("frozen")
