"""The epoch row: who writes a journal in a database, and until when nobody else may take over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from dpud.scheduler import codec
from dpud.scheduler.journal import Superseded, UnreadableJournal
from dpud.scheduler.schema import writer

if TYPE_CHECKING:
    from sqlalchemy.sql.elements import TextClause

#: How long a writer that renews no more stays the writer, and how often it renews.
TERM_S = 6.0
RENEW_S = 2.0

#: Holds the row of a writer, where it is the newest, until the transaction ends.
#: SQLite has the lock since the begin and ignores FOR UPDATE; PostgreSQL takes it here.
HOLD = sa.select(writer.c.epoch).where(writer.c.epoch == sa.bindparam("epoch")).with_for_update()


class Taken(Exception):
    """Another scheduler writes the journal, and its time is not up."""


def take(connection: sa.Connection, now: TextClause, *, by_force: bool, own: int = 0) -> int:
    """Return the new epoch: from now on no older writer can append.

    Raises Taken where another's time is not up, unless `by_force`, or that epoch was the `own` one; and
    UnreadableJournal.
    """
    found = connection.execute(sa.select(writer.c.epoch, writer.c.format).with_for_update()).one_or_none()
    if found is None:
        first = {"id": 1, "epoch": 1, "format": codec.FORMAT, "expires": _end(connection, now)}
        connection.execute(sa.insert(writer).values(first))
        return 1
    if found.format != codec.FORMAT:
        raise UnreadableJournal(
            f"the journal has format {found.format}, and this version reads {codec.FORMAT}: "
            "use the version that wrote it"
        )
    ours = sa.update(writer).values(epoch=writer.c.epoch + 1, expires=_end(connection, now))
    if not by_force:
        is_over = writer.c.expires <= connection.scalar(sa.select(now))
        ours = ours.where(sa.or_(is_over, writer.c.epoch == own))
    if not connection.execute(ours).rowcount:
        raise Taken
    return int(found.epoch) + 1


def lock(connection: sa.Connection, epoch: int) -> None:
    """Hold the row until the transaction ends. Raises Superseded unless `epoch` is the newest."""
    if connection.scalar(HOLD, {"epoch": epoch}) is None:
        raise Superseded


def renew(connection: sa.Connection, now: TextClause, epoch: int) -> None:
    """Stay the writer for one more term. Raises Superseded."""
    _set_end(connection, epoch, _end(connection, now))


def resign(connection: sa.Connection, epoch: int) -> None:
    """Let another take over at once. Raises Superseded where one has already."""
    _set_end(connection, epoch, 0.0)


def _set_end(connection: sa.Connection, epoch: int, expires: float) -> None:
    if not connection.execute(sa.update(writer).where(writer.c.epoch == epoch).values(expires=expires)).rowcount:
        raise Superseded


def _end(connection: sa.Connection, now: TextClause) -> float:
    return float(connection.execute(sa.select(now)).scalar_one()) + TERM_S
