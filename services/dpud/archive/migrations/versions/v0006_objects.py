"""The objects that there are frames of, for wildcards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NAMES = ("frame_class", "instrument", "object")


def upgrade() -> None:
    """Make the table and fill it."""
    objects = op.create_table("objects", *(sa.Column(name, _WORDS, primary_key=True) for name in _NAMES))
    frames = sa.table("frames", *map(sa.column, _NAMES))
    there = sa.select(*(frames.c[name] for name in _NAMES)).where(frames.c.object != "").distinct()
    op.get_bind().execute(sa.insert(objects).from_select(list(_NAMES), there))


def downgrade() -> None:
    """Take it away."""
    op.drop_table("objects")
