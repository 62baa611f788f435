"""What makes a product the same as another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns; products that are there already have no identity, and are made again when they are asked for."""
    op.add_column("frames", sa.Column("identity", _WORDS, nullable=False, server_default=""))
    op.add_column("frames", sa.Column("consulted", sa.Text, nullable=False, server_default=""))
    products = sa.text("job IS NOT NULL")
    op.create_index(
        "frames_identity", "frames", ["project", "identity"], sqlite_where=products, postgresql_where=products
    )


def downgrade() -> None:
    """Take them away."""
    op.drop_index("frames_identity", "frames")
    op.drop_column("frames", "consulted")
    op.drop_column("frames", "identity")
