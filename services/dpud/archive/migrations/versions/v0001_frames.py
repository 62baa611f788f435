"""Frames, their names and fences, as the archive began."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_TEXT = ("project", "id", "frame_class", "instrument", "chip", "filter", "object", "readout", "file_name", "digest")
_JSON = ("values", "inputs", "parameters")
_TIMES = ("date_obs", "timestamp_start", "timestamp_end", "creation_date")
_WHO = ("user", "source", "code_digest")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "frames",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        *(sa.Column(name, _WORDS, nullable=False) for name in (*_TEXT, *_WHO)),
        *(sa.Column(name, sa.Text, nullable=False) for name in _JSON),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in (*_TIMES, "size", "quality_flags")),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("overscan", "number")),
        *(sa.Column(name, sa.Boolean, nullable=False) for name in ("is_valid", "published")),
        sa.Column("night", sa.Date, nullable=False),
        sa.Column("exptime", sa.Float, nullable=False),
        sa.Column("job", sa.BigInteger),
        sa.Column("task", sa.Integer),
        sa.Column("attempt", sa.Integer),
    )
    for name, columns, unique in _INDEXES:
        op.create_index(f"frames_{name}", "frames", columns, unique=unique)
    products = sa.text("job IS NOT NULL")
    op.create_index(
        "frames_calibration",
        "frames",
        ["project", "frame_class", "instrument", "chip", "date_obs"],
        sqlite_where=products,
        postgresql_where=products,
    )
    op.create_table(
        "names",
        *(sa.Column(name, _WORDS, primary_key=True) for name in ("project", "name", "id")),
    )
    op.create_index("names_id", "names", ["project", "id"])
    op.create_table(
        "fences",
        sa.Column("job", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("task", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("state", _WORDS, nullable=False),
    )


def downgrade() -> None:
    """Take them away."""
    op.drop_table("fences")
    op.drop_table("names")
    op.drop_table("frames")


_INDEXES: tuple[tuple[str, list[str], bool], ...] = (
    ("id", ["project", "id"], True),
    ("file_name", ["project", "file_name"], True),
    ("product", ["job", "task", "attempt", "number"], True),
    ("night", ["project", "frame_class", "instrument", "night", "date_obs", "chip"], False),
    ("time", ["project", "frame_class", "instrument", "date_obs", "chip"], False),
    ("object", ["project", "frame_class", "instrument", "object", "date_obs", "chip"], False),
    ("source", ["project", "source"], False),
    ("digest", ["digest"], False),
    ("unpublished", ["published", "creation_date"], False),
)
