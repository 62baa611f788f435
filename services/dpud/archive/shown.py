"""Whose frames a statement of SQL finds: those that a view shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from dpud.archive.records import EVERYBODY
from dpud.archive.schema import FRAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpud.archive.records import View

_COLUMNS = FRAMES.c
_TWINS = FRAMES.alias("twins")

# Making a statement takes longer than asking it: what is asked for every task is made once, and names what changes.
_AUDIENCES: Final[sa.BindParameter[str]] = sa.bindparam("audiences", expanding=True)
_PROJECT: Final[sa.BindParameter[str]] = sa.bindparam("project")
#: Holds of a frame without a twin that goes before it: the view's own, or an earlier one.
_IS_NEAREST = sa.or_(
    _COLUMNS.project == _PROJECT,
    ~sa.select(sa.literal_column("1"))
    .where(
        _TWINS.c.id == _COLUMNS.id,
        _TWINS.c.audience.in_(_AUDIENCES),
        sa.or_(_TWINS.c.project == _PROJECT, _TWINS.c.sequence < _COLUMNS.sequence),
    )
    .exists(),
)

#: Holds of the frames that a view shows (`seeing`).
SHOWN: Final = sa.and_(_COLUMNS.audience.in_(_AUDIENCES), _IS_NEAREST)
#: Those of its audiences that are large, each by itself, and the others together.
_OF_PROJECT: Final = _COLUMNS.audience == sa.bindparam("own")
_OF_EVERYBODY: Final = sa.and_(_COLUMNS.audience == sa.literal_column(f"'{EVERYBODY}'"), _IS_NEAREST)
_OF_FEW: Final = _COLUMNS.audience.in_(sa.bindparam("few", expanding=True))

#: Asks for the frames of some identifiers (`ids`).
FOUND: Final = sa.select(FRAMES).where(SHOWN, _COLUMNS.id.in_(sa.bindparam("ids", expanding=True)))


def seeing(view: View) -> dict[str, Any]:
    """Return the parameters that tell a statement whose view it has."""
    own, _, *few = view.audiences
    return {"audiences": view.audiences, "project": view.project, "own": own, "few": few}


def by_audience(view: View) -> Iterator[sa.ColumnElement[bool]]:
    """Give what holds of frames of each audience of a view.

    The large ones are asked by themselves, as an index gives their frames in order; those of all at once would have
    to be sorted.
    """
    yield _OF_PROJECT
    yield _OF_EVERYBODY
    if view.user or view.job:
        yield _OF_FEW
