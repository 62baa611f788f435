"""What lies in the cold tier and when files were asked for last, beside the catalogue in its database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from dpud.archive.coldlist import Total, Totals
from dpud.archive.schema import FRAMES, FROZEN, USES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import date

    from dpud.archive.database import Database

#: A statement has at most so many parameters.
_BATCH = 500


class SqlColdList:
    """Both ports over the catalogue's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def freeze(self, digest: str, stored: int) -> bool:
        """Note that a file lies there."""
        with self._database.writing() as connection:
            if connection.scalar(sa.select(FRAMES.c.sequence).where(FRAMES.c.digest == digest).limit(1)) is None:
                return False
            connection.execute(sa.delete(FROZEN).where(FROZEN.c.digest == digest))
            connection.execute(sa.insert(FROZEN), {"digest": digest, "stored": stored})
            return True

    def thaw(self, digest: str) -> None:
        """Note that it does not any more."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(FROZEN).where(FROZEN.c.digest == digest))

    def frozen(self, digests: Collection[str]) -> set[str]:
        """Return those that lie there."""
        with self._database.reading() as connection:
            return _frozen(connection, digests)

    def forget(self, digests: Collection[str]) -> set[str]:
        """Forget files that are gone."""
        with self._database.writing() as connection:
            gone = _frozen(connection, digests)
            for batch in _batches(digests):
                for table in (FROZEN, USES):
                    connection.execute(sa.delete(table).where(table.c.digest.in_(batch)))
            return gone

    def totals(self, project: str = "") -> Totals:
        """Return how much there is in each tier: all of it stands in one index."""
        files = sa.select(FRAMES.c.digest, sa.func.max(FRAMES.c.size).label("size"), sa.func.count().label("frames"))
        files = files.where(FRAMES.c.digest != "", *([FRAMES.c.project == project] if project else []))
        each = files.group_by(FRAMES.c.digest).subquery()
        cold = FROZEN.c.digest.is_not(None)
        stored = sa.func.coalesce(FROZEN.c.stored, each.c.size)
        figures = map(sa.func.sum, (each.c.frames, sa.literal(1), each.c.size, stored))
        counted = sa.select(cold, *figures).select_from(each.outerjoin(FROZEN, FROZEN.c.digest == each.c.digest))
        with self._database.reading() as connection:
            found = {
                bool(is_cold): Total(*map(int, total)) for is_cold, *total in connection.execute(counted.group_by(cold))
            }
        return Totals(found.get(False, Total()), found.get(True, Total()))

    def note(self, digests: Collection[str], day: date) -> None:
        """Note that files were asked for."""
        rows = [{"digest": digest, "day": day} for digest in digests]
        with self._database.writing() as connection:
            # Both databases have it, each as its own dialect's.
            insert: Any = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
            noted = insert(USES)
            later = noted.on_conflict_do_update(
                index_elements=["digest"], set_={"day": noted.excluded.day}, where=USES.c.day < noted.excluded.day
            )
            connection.execute(later, rows)

    def last(self, digests: Collection[str]) -> dict[str, date]:
        """Return the last days."""
        columns = sa.select(USES.c.digest, USES.c.day)
        with self._database.reading() as connection:
            return {
                digest: day
                for batch in _batches(digests)
                for digest, day in connection.execute(columns.where(USES.c.digest.in_(batch)))
            }


def _frozen(connection: sa.Connection, digests: Collection[str]) -> set[str]:
    wanted = sa.select(FROZEN.c.digest)
    return {
        digest for batch in _batches(digests) for digest in connection.scalars(wanted.where(FROZEN.c.digest.in_(batch)))
    }


def _batches(digests: Collection[str]) -> Iterator[Sequence[str]]:
    listed = list(digests)
    for start in range(0, len(listed), _BATCH):
        yield listed[start : start + _BATCH]
