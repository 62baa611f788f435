"""What each product was made from and how, and who may see each frame."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

import sqlalchemy as sa
from alembic import op

if TYPE_CHECKING:
    from collections.abc import Iterator

revision = "0004"
down_revision = "0003"

_WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_FRAMES = sa.table(
    "frames",
    *map(sa.column, ("sequence", "project", "id", "digest", "job", "published", "inputs", "consulted", "audience")),
)
_LINKS = sa.table("links", *map(sa.column, ("project", "product", "input", "digest")))
_PRODUCTS = sa.text("job IS NOT NULL")
#: Rows that are written at a time.
_BATCH = 1000


def upgrade() -> None:
    """Make the table of links, fill it, and let who sees a frame come first in its indexes."""
    op.create_table(
        "links",
        *(sa.Column(name, _WORDS, primary_key=True) for name in ("project", "product", "input")),
        sa.Column("digest", _WORDS, nullable=False),
    )
    op.create_index("links_input", "links", ["input"])
    op.create_index("names_name", "names", ["name"])
    op.add_column("frames", sa.Column("making", sa.Text, nullable=False, server_default=""))
    op.add_column("frames", sa.Column("privileges", sa.Integer, nullable=False, server_default="2"))
    op.add_column("frames", sa.Column("audience", _WORDS, nullable=False, server_default=""))
    _index(first="audience", unique=("id", "project"))
    _tell_audiences()
    _tell_links()


def downgrade() -> None:
    """Take it away."""
    _index(first="project", unique=("project", "id"))
    for name in ("audience", "privileges", "making"):
        op.drop_column("frames", name)
    op.drop_index("names_name", "names")
    op.drop_table("links")


def _index(*, first: str, unique: tuple[str, str]) -> None:
    """Make the indexes of frames anew, with another first column."""
    op.drop_index("frames_id", "frames")
    op.create_index("frames_id", "frames", list(unique), unique=True)
    for name, columns in _INDEXES.items():
        only = _PRODUCTS if name in _OF_PRODUCTS else None
        op.drop_index(f"frames_{name}", "frames")
        op.create_index(f"frames_{name}", "frames", [first, *columns], sqlite_where=only, postgresql_where=only)


def _tell_audiences() -> None:
    connection = op.get_bind()
    for project in list(connection.scalars(sa.select(_FRAMES.c.project).distinct())):
        mine, safe = _FRAMES.c.project == project, quote(project, safe="")
        connection.execute(sa.update(_FRAMES).where(mine).values(audience=f"2/{safe}"))
        staged = sa.literal(f"0/{safe}/") + sa.cast(_FRAMES.c.job, sa.Text)
        connection.execute(sa.update(_FRAMES).where(mine, ~_FRAMES.c.published).values(audience=staged))


def _tell_links() -> None:
    connection = op.get_bind()
    last = 0
    products = sa.select(_FRAMES).where(_FRAMES.c.job.is_not(None)).order_by(_FRAMES.c.sequence).limit(_BATCH)
    while rows := connection.execute(products.where(_FRAMES.c.sequence > last)).all():
        last = rows[-1].sequence
        if links := [link for row in rows for link in _links(row)]:
            connection.execute(sa.insert(_LINKS), links)
    same = sa.and_(_FRAMES.c.project == _LINKS.c.project, _FRAMES.c.id == _LINKS.c.input)
    found = sa.select(_FRAMES.c.digest).where(same).scalar_subquery()
    connection.execute(sa.update(_LINKS).values(digest=sa.func.coalesce(found, "")))


def _links(row: sa.Row[tuple[object, ...]]) -> Iterator[dict[str, str]]:
    answers = [answer for *_, answer in json.loads(row.consulted or "[]") if answer]
    for name in dict.fromkeys([*json.loads(row.inputs or "[]"), *answers]):
        yield {"project": row.project, "product": row.id, "input": name, "digest": ""}


_INDEXES = {
    "night": ["frame_class", "instrument", "night", "date_obs", "chip"],
    "time": ["frame_class", "instrument", "date_obs", "chip"],
    "object": ["frame_class", "instrument", "object", "date_obs", "chip"],
    "calibration": ["frame_class", "instrument", "chip", "date_obs"],
    "identity": ["identity"],
}
_OF_PRODUCTS = ("calibration", "identity")
