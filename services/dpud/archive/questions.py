"""What a query means to a database, as conditions of SQL on its frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from dpu_recipes import validity
from dpu_recipes.night import parse_night
from dpud.archive.conditions import COMPARE, AllOf, AnyOf, Comparison, Condition, Operator
from dpud.archive.schema import FRAMES, NAMES, OBJECTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpud.archive.records import Query

_COLUMNS = FRAMES.c
_WILD = frozenset("*?")


def is_sorted(query: Query) -> bool:
    """Return whether no index gives the frames of a query in order: few, or of objects that are looked up first."""
    return query.is_narrow or _by_known_objects(query)


def fitting(query: Query, dialect: str) -> Iterator[sa.ColumnElement[bool]]:
    """Give what holds of the frames of a query, whoever sees them."""
    if query.only_job:
        yield _COLUMNS.job == query.view.job
    if query.frame_class:
        yield _COLUMNS.frame_class == query.frame_class
    if query.source:
        yield _COLUMNS.project == query.view.project
        yield _COLUMNS.source == query.source
    yield from _selected(query, dialect)
    if (condition := _said(query.condition, dialect)) is not None:
        yield condition


def _selected(query: Query, dialect: str) -> Iterator[sa.ColumnElement[bool]]:
    selection = query.selection
    if selection.file_names:
        names = sorted(map(validity.stem, selection.file_names))
        named = sa.select(NAMES.c.id, NAMES.c.project).where(NAMES.c.name.in_(names))
        yield sa.tuple_(_COLUMNS.id, _COLUMNS.project).in_(named)
        return
    if selection.identity:
        yield _COLUMNS.identity == selection.identity
        yield _COLUMNS.job.is_not(None)
    if selection.instrument:
        yield _COLUMNS.instrument == selection.instrument
    if selection.night:
        yield _COLUMNS.night == parse_night(selection.night)
    if selection.chips:
        yield _COLUMNS.chip.in_(selection.chips)
    if query.frame_class not in validity.IGNORING_FILTER_AND_OBJECT:
        yield from _lit(query, dialect)


def _lit(query: Query, dialect: str) -> Iterator[sa.ColumnElement[bool]]:
    """Give what is asked of frames that saw light."""
    asked = []
    if query.selection.filter:
        asked.append(_COLUMNS.filter == query.selection.filter)
    if query.selection.object.strip("*"):
        asked.append(_of_object(query, dialect))
    if asked and not query.frame_class:
        # No index serves an OR, so it is there only when frames of all classes are asked for.
        yield sa.or_(_COLUMNS.frame_class.in_(validity.IGNORING_FILTER_AND_OBJECT), sa.and_(*asked))
    else:
        yield from asked


def _of_object(query: Query, dialect: str) -> sa.ColumnElement[bool]:
    """Return what holds of frames of the objects that fit a pattern: one of those that are known for the class."""
    column, pattern = _COLUMNS.object, query.selection.object
    if not _by_known_objects(query):
        return _like(column, pattern, dialect)
    known = sa.select(OBJECTS.c.object).where(
        OBJECTS.c.frame_class == query.frame_class,
        OBJECTS.c.instrument == query.selection.instrument,
        _like(OBJECTS.c.object, pattern, dialect),
    )
    # As an array, PostgreSQL looks them up before it plans how to go through frames.
    return column.in_(known) if dialect == "sqlite" else column == sa.any_(sa.func.array(known.scalar_subquery()))


def _by_known_objects(query: Query) -> bool:
    """Return whether the object is looked up among those that are known: a wildcard, in all nights."""
    selection = query.selection
    return bool(
        _WILD & set(selection.object) and query.frame_class and selection.instrument and not selection.night
    ) and bool(selection.object.strip("*"))


def _said(condition: Condition, dialect: str) -> sa.ColumnElement[bool] | None:
    """Return a condition in SQL; None for one that always holds."""
    match condition:
        case Comparison(attribute, Operator.LIKE, value):
            return _like(_COLUMNS[attribute], str(value), dialect)
        case Comparison(attribute, how, value):
            compared: sa.ColumnElement[bool] = COMPARE[how](_COLUMNS[attribute], value)
            return compared
        case AllOf(parts):
            said = [part for part in (_said(part, dialect) for part in parts) if part is not None]
            return sa.and_(*said) if said else None
        case AnyOf(parts):
            said = [sa.true() if part is None else part for part in (_said(part, dialect) for part in parts)]
            return sa.or_(*said) if said else sa.false()


def _like(column: sa.ColumnElement[str], pattern: str, dialect: str) -> sa.ColumnElement[bool]:
    if not _WILD & set(pattern):
        return column == pattern
    if dialect == "sqlite":
        # SQLite's LIKE takes capitals and small letters for the same; its GLOB does not.
        return column.op("GLOB", is_comparison=True)(pattern.replace("[", "[[]"))
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return column.like(escaped.replace("*", "%").replace("?", "_"), escape="\\")
