"""Snapshots in the journal's database, and the groups behind which they stand."""

from __future__ import annotations

import time
import zlib
from bisect import bisect_left
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING

import sqlalchemy as sa

from dpud.scheduler import codec, epoch, machine
from dpud.scheduler.schema import groups, snapshots
from dpud.scheduler.snapshot import dump_state, load_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dpud.scheduler.events import Event
    from dpud.scheduler.model import State

#: Groups or parts that are read at once; and beside a writer, which in SQLite has to wait meanwhile.
_PAGE = 1_000
_FEW = 100
#: About so many bytes are written or dropped in one transaction.
_BATCH_BYTES = 256 * 1024
_PAUSE_S = 0.01

#: One that was made twice is the same.
_INSERT = sa.text(
    "INSERT INTO snapshot (number, part, parts, body) VALUES (:number, :part, :parts, :body) ON CONFLICT DO NOTHING"
)


def newest(connection: sa.Connection) -> int:
    """Return the number of the last group in the newest whole snapshot; 0 without any."""
    whole = sa.select(snapshots.c.number).group_by(snapshots.c.number)
    whole = whole.having(sa.func.count() == sa.func.max(snapshots.c.parts))
    return connection.scalar(whole.order_by(snapshots.c.number.desc()).limit(1)) or 0


def page_of_parts(connection: sa.Connection, number: int, first: int, limit: int = _PAGE) -> Sequence[bytes]:
    """Return the next parts of a snapshot, as they are stored."""
    wanted = sa.select(snapshots.c.body).where(snapshots.c.number == number, snapshots.c.part >= first)
    return connection.scalars(wanted.order_by(snapshots.c.part).limit(limit)).all()


def page_of_groups(connection: sa.Connection, behind: int, limit: int = _PAGE) -> Sequence[tuple[int, bytes]]:
    """Return the next groups, as they are stored."""
    wanted = sa.select(groups.c.number, groups.c.body).where(groups.c.number > behind)
    return [(number, body) for number, body in connection.execute(wanted.order_by(groups.c.number).limit(limit))]


def events_of(body: bytes) -> Sequence[Event]:
    """Return the events of a stored group."""
    return codec.load_events(zlib.decompress(body))


def shorten(engine: sa.Engine, writer: int) -> int:
    """Make a snapshot of all that the journal tells, drop what it replaces, and return its number.

    Nothing is dropped for a `writer` that has been superseded: the next may be reading it.
    """
    number, state = _read(engine)
    parts = [zlib.compress(part, 1) for part in dump_state(state)]
    for batch in _batches(number, parts):
        with _brief(engine) as connection:
            connection.execute(_INSERT, batch)
    older = snapshots.c.number < number, groups.c.number <= number
    for table, place, condition in zip((snapshots, groups), (snapshots.c.part, groups.c.number), older, strict=True):
        while _drop(engine, writer, table, place, condition):
            pass
    return number


@contextmanager
def _brief(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Give a transaction beside the writer, and leave its lock alone afterwards for twice as long as it was held.

    SQLite's writer asks for the lock after ever longer pauses: it must be free more often than not.
    """
    with engine.begin() as connection:
        begun = time.monotonic()
        yield connection
    time.sleep(max(_PAUSE_S, 2 * (time.monotonic() - begun)))


def _read(engine: sa.Engine) -> tuple[int, State]:
    """Return the state that the journal tells, and the number of the last group in it."""
    with _brief(engine) as connection:
        number = newest(connection)
    state = load_state(_parts(engine, number))
    while True:
        with _brief(engine) as connection:
            page = page_of_groups(connection, number, _FEW)
        if not page:
            return number, state
        for number, body in page:  # noqa: B007 (the next page begins behind the last one)
            for event in events_of(body):
                machine.apply(state, event)


def _parts(engine: sa.Engine, number: int) -> Iterator[bytes]:
    first = 0
    while True:
        with _brief(engine) as connection:
            page = page_of_parts(connection, number, first, _FEW)
        if not page:
            return
        yield from map(zlib.decompress, page)
        first += len(page)


def _batches(number: int, parts: Sequence[bytes]) -> Iterator[list[dict[str, object]]]:
    batch: list[dict[str, object]] = []
    size = 0
    for part, body in enumerate(parts):
        batch.append({"number": number, "part": part, "parts": len(parts), "body": body})
        size += len(body)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _drop(
    engine: sa.Engine, writer: int, table: sa.Table, place: sa.Column[int], older: sa.ColumnElement[bool]
) -> bool:
    """Drop the first rows, by their number and `place`; return whether there were any."""
    wanted = sa.select(table.c.number, place, sa.func.length(table.c.body)).where(older)
    with _brief(engine) as connection:
        epoch.lock(connection, writer)
        rows = connection.execute(wanted.order_by(table.c.number, place).limit(_PAGE)).all()
        if not rows:
            return False
        # One more than fit: else a large one would never go.
        few = 1 + bisect_left(list(accumulate(size for _, _, size in rows)), _BATCH_BYTES)
        number, last, _ = rows[:few][-1]
        connection.execute(sa.delete(table).where(older, sa.tuple_(table.c.number, place) <= (number, last)))
        return True
