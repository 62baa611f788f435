"""The journal in a database: SQLite in a file (WAL, a sync a commit), or PostgreSQL."""

from __future__ import annotations

import time
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from dpud.scheduler import codec, epoch, history_sql
from dpud.scheduler.database import driving, is_away, now, spelled, sqlite_engine
from dpud.scheduler.journal import AppendFailed, Superseded
from dpud.scheduler.reserve import Reserve
from dpud.scheduler.schema import groups, migrate
from dpud.scheduler.snapshot import load_state
from dpud.scheduler.snapshot_sql import events_of, newest, page_of_groups, page_of_parts
from dpud.scheduler.totals import totals_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from dpud.scheduler.events import Event
    from dpud.scheduler.journal import Query
    from dpud.scheduler.model import Job, State, Task
    from dpud.scheduler.reserve_sql import TableReserve
    from dpud.scheduler.totals import Kind, Totals

T = TypeVar("T")

#: Kept back beside the journal, so that what runs can end when the disk is full.
RESERVE_BYTES = 64 * 1024 * 1024
#: For so long a database that went away is asked again: less than an epoch's term.
PATIENCE_S = 5.0
_PAUSE_S = 0.05


#: A group whose commit was not answered may be there: its number is only ever its own.
_INSERT = sa.text(
    "INSERT INTO event_group (number, epoch, body) VALUES (:number, :epoch, :body) ON CONFLICT DO NOTHING"
)
_LAST = sa.select(sa.func.max(groups.c.number))


class SqlJournal:
    """A journal in the database behind an engine."""

    def __init__(self, engine: sa.Engine, reserve: Reserve | TableReserve | None = None) -> None:
        self._engine = engine
        self._reserve = reserve
        self._now = now(engine)
        # Appending is what everybody waits for: its statements are made once, and go to the driver as they are.
        self._hold, self._insert = (spelled(engine, each) for each in (epoch.HOLD, _INSERT))
        beside = (history_sql.LAY_DOWN, history_sql.RETIRE, history_sql.MARK, history_sql.COUNT)
        self._lay_down, self._retire, self._mark, self._count = (spelled(engine, each) for each in beside)
        self._epoch = 0
        self._next = 1
        #: The job that is about to leave the memory, whose tasks are laid down.
        self._laid_down = 0

    @classmethod
    def open_file(cls, path: Path, reserve_bytes: int = RESERVE_BYTES) -> SqlJournal:
        """Open the journal in a SQLite file, made where there is none, and become its writer.

        Raises UnreadableJournal, or AppendFailed where the disk takes nothing.
        """
        journal = cls(sqlite_engine(path), Reserve(path.with_suffix(".reserve"), reserve_bytes))
        try:
            journal.begin()
        except BaseException:
            journal.close()
            raise
        return journal

    def begin(self, *, by_force: bool = True, own: int = 0) -> None:
        """Bring the tables up to date and become the writer.

        Raises epoch.Taken where another is, unless `by_force`, or that one was our `own`; UnreadableJournal;
        AppendFailed.
        """
        try:
            with self._engine.begin() as connection:
                self._lock_tables(connection)
                migrate(connection)
                self._epoch = epoch.take(connection, self._now, by_force=by_force, own=own)
                self._next = 1 + max(newest(connection), connection.scalar(_LAST) or 0)
        except DBAPIError as error:
            raise AppendFailed(f"the journal cannot be opened: {error.orig}") from error
        if self._reserve:
            self._reserve.take()

    def _lock_tables(self, connection: sa.Connection) -> None:
        """Keep others from making the same tables; SQLite has its one lock already."""
        if self._engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(zlib.crc32(b"dpu scheduler journal"))))

    def renew(self) -> None:
        """Stay the writer for one more term. Raises Superseded, or AppendFailed when the database is away."""
        self._durably(lambda connection: epoch.renew(connection, self._now, self._epoch), sa.Engine.begin)

    def resign(self) -> None:
        """Let another take over at once. Raises Superseded, or AppendFailed."""
        self._patiently(lambda connection: epoch.resign(connection, self._epoch))

    @property
    def epoch(self) -> int:
        """The number of this writer."""
        return self._epoch

    @property
    def url(self) -> str:
        """Where the database is, with its password if it has one."""
        return self._engine.url.render_as_string(hide_password=False)

    def base(self) -> State:
        """Return the state of the newest snapshot; an empty one without any."""
        return load_state(self._parts(self._patiently(newest)))

    def _parts(self, number: int) -> Iterator[bytes]:
        first = 0
        while page := self._patiently(partial(page_of_parts, number=number, first=first)):
            yield from map(zlib.decompress, page)
            first += len(page)

    def replay(self) -> Iterator[Sequence[Event]]:
        """Yield all groups behind the newest snapshot, in order."""
        last = self._patiently(newest)
        while page := self._patiently(partial(page_of_groups, behind=last)):
            for last, body in page:  # noqa: B007 (the next page begins behind the last one)
                yield events_of(body)

    def append(self, events: Sequence[Event], retired: Iterable[Job] = (), ended: Iterable[Job] = ()) -> None:
        """Make a group durable in one transaction; on a full disk, in the room that was kept back."""
        body = codec.dump_events(events)
        retired = list(retired)
        if not body and not retired:
            return
        unlaid = (job for job in retired if job.id != self._laid_down)
        beside = [
            (self._lay_down, [row for job in unlaid for row in history_sql.pieces_of(job)]),
            (self._retire, [history_sql.row_of(job) for job in retired]),
            (self._mark, [row for job in retired for row in history_sql.marks_of(job)]),
            (self._count, history_sql.counts_of(totals_of(ended))),
        ]
        row = {"number": self._next, "epoch": self._epoch, "body": codec.compressed(body)}
        self._durably(lambda cursor: self._write(cursor, row, beside))
        self._next += 1

    def laying_down(self, job: Job) -> Iterator[None]:
        """Make the tasks of an ended job durable, some of them each time that this is asked to go on."""
        for row in history_sql.pieces_of(job):
            self._durably(partial(self._write_piece, row=row))
            yield
        self._laid_down = job.id

    def _durably(
        self, work: Callable[[Any], None], begun: Callable[[sa.Engine], AbstractContextManager[Any]] = driving
    ) -> None:
        """Do `work` in one transaction; on a full disk, in the room that was kept back."""
        try:
            self._patiently(work, begun)
        except AppendFailed:
            if not (self._reserve and self._reserve.give_up()):
                raise
            self._patiently(work, begun)

    def _write(self, cursor: Any, row: dict[str, Any], beside: list[tuple[str, list[dict[str, Any]]]]) -> None:
        """Write a group and what goes with it, unless it is there.

        The lock is granted only when the transaction before has ended: whether it is there is certain then.
        """
        self._lock(cursor)
        cursor.execute(self._insert, row)
        for statement, rows in beside if cursor.rowcount else []:
            if rows:
                cursor.executemany(statement, rows)

    def _write_piece(self, cursor: Any, row: dict[str, Any]) -> None:
        self._lock(cursor)
        cursor.execute(self._lay_down, row)

    def _lock(self, cursor: Any) -> None:
        """Keep others from becoming the writer. Raises Superseded where one has."""
        cursor.execute(self._hold, {"epoch": self._epoch})
        if cursor.fetchone() is None:
            raise Superseded

    def _patiently(
        self, work: Callable[[Any], T], begun: Callable[[sa.Engine], AbstractContextManager[Any]] = sa.Engine.begin
    ) -> T:
        """Return what `work` does in one transaction; a database that went away is asked again for a while.

        Raises AppendFailed where it stays away, or takes nothing.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                with begun(self._engine) as connection:
                    return work(connection)
            except DBAPIError as error:
                if not is_away(error) or time.monotonic() > deadline:
                    raise AppendFailed(f"the journal took nothing: {error.orig}") from error
                time.sleep(_PAUSE_S)

    @property
    def roomy(self) -> bool:
        """Whether the reserve is there, or could be taken again."""
        return self._reserve is None or self._reserve.take()

    def history(self, query: Query, limit: int) -> list[Job]:
        """Return retired jobs without their tasks, newest first, at most `limit`."""
        return self._patiently(lambda connection: history_sql.find(connection, query, limit))

    def tasks(self, job: int, first: int, limit: int) -> list[Task]:
        """Return tasks of a retired job, from `first` on, at most `limit`."""
        return self._patiently(lambda connection: history_sql.tasks(connection, job, first, limit))

    def totals(self, project: str, since: int, kind: Kind) -> dict[Any, Totals]:
        """Return what a project's jobs came to that ended since a day, by day, owner or sequence, in order."""
        return self._patiently(lambda connection: history_sql.sums(connection, project, since, kind))

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()
