"""The limits that a product's quality was held to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column; of products that are there already nobody noted the limits."""
    op.add_column("frames", sa.Column("limits", sa.Text, nullable=False, server_default="{}"))


def downgrade() -> None:
    """Take it away."""
    op.drop_column("frames", "limits")
