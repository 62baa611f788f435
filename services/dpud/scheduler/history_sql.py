"""The history of jobs in the journal's database: jobs, their tasks, the words that find them, and sums by day."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields, replace
from functools import reduce
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dpud.scheduler import codec
from dpud.scheduler.model import Job, Task
from dpud.scheduler.schema import days, history, marks
from dpud.scheduler.schema import tasks as rows_of_tasks
from dpud.scheduler.totals import Slot, Totals
from dpud.scheduler.words import words_in, words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dpud.scheduler.journal import Query
    from dpud.scheduler.model import JobState
    from dpud.scheduler.totals import Kind

#: Stands in every job, so that whatever is asked, one index has the answer in its order.
EVERY = ""
#: Of a word that stands in more jobs than this, nobody needs to know in how many.
COUNTED = 1_000
#: Tasks in a row, a few milliseconds of work.
PIECE = 500

#: Tasks that were laid down and whose job did not leave are laid down again.
LAY_DOWN = sa.text("INSERT INTO job_task (id, first, body) VALUES (:id, :first, :body) ON CONFLICT DO NOTHING")
RETIRE = sa.insert(history)
MARK = sa.insert(marks)
_FIGURES = [field.name for field in fields(Totals)]
_figures = attrgetter(*_FIGURES)


def _added(name: str) -> str:
    if name.startswith("longest"):
        return f"{name} = CASE WHEN excluded.{name} > job_day.{name} THEN excluded.{name} ELSE job_day.{name} END"
    return f"{name} = job_day.{name} + excluded.{name}"


COUNT = sa.text(
    f"INSERT INTO job_day ({', '.join([*Slot._fields, *_FIGURES])}) "  # noqa: S608 (the names are our own)
    f"VALUES ({', '.join(f':{name}' for name in [*Slot._fields, *_FIGURES])}) "
    f"ON CONFLICT ({', '.join(Slot._fields)}) DO UPDATE SET {', '.join(map(_added, _FIGURES))}"
)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What a row has of a job's tasks."""

    tasks: list[Task]


def pieces_of(job: Job) -> Iterator[dict[str, Any]]:
    """Yield the rows of a job's tasks."""
    for first in range(0, len(job.tasks), PIECE):
        piece = _Piece(job.tasks[first : first + PIECE])
        yield {"id": job.id, "first": first, "body": codec.compressed(codec.dump(piece))}


def row_of(job: Job) -> dict[str, Any]:
    """Return the row of a job that leaves the memory: whoever looks for jobs need not read their tasks."""
    return {
        "id": job.id,
        "project": job.project,
        "owner": job.user,
        "sequence": job.sequence,
        "state": int(job.state),
        "ended": job.ended,
        "body": codec.compressed(codec.dump(replace(job, tasks=[]))),
    }


def marks_of(job: Job) -> list[dict[str, Any]]:
    """Return the rows of its words."""
    return [{"project": job.project, "word": word, "id": job.id} for word in (EVERY, *words_of(job))]


def counts_of(totals: Mapping[Slot, Totals]) -> list[dict[str, Any]]:
    """Return the rows that are added to the sums."""
    return [slot._asdict() | dict(zip(_FIGURES, _figures(total), strict=True)) for slot, total in totals.items()]


def tasks(connection: sa.Connection, job: int, first: int, limit: int) -> list[Task]:
    """Return tasks of a retired job, from `first` on, at most `limit`."""
    wanted = sa.select(rows_of_tasks.c.first, rows_of_tasks.c.body).where(
        rows_of_tasks.c.id == job, rows_of_tasks.c.first > first - PIECE, rows_of_tasks.c.first < first + limit
    )
    rows = connection.execute(wanted.order_by(rows_of_tasks.c.first)).all()
    if not rows:
        return _own_tasks(connection, job)[first : first + limit]
    found = [task for row in rows for task in codec.load(_Piece, zlib.decompress(row.body)).tasks]
    ahead = first - rows[0].first
    return found[ahead : ahead + limit]


def _own_tasks(connection: sa.Connection, job: int) -> list[Task]:
    """Return all tasks of a job that left the memory when jobs had them in their own row."""
    body = connection.scalar(sa.select(history.c.body).where(history.c.id == job))
    return codec.load(Job, zlib.decompress(body)).tasks if body else []


def find(connection: sa.Connection, query: Query, limit: int) -> list[Job]:
    """Return retired jobs without their tasks, newest first, at most `limit`."""
    if query.states:
        # Each in its own order by its own word: of those that failed, few stand among many that did not.
        ended = [state for state in query.states if state.ended]
        found = merge(*(_find(connection, query, state, limit) for state in ended), key=lambda job: -job.id)
        return list(islice(found, limit))
    return _find(connection, query, None, limit)


def _find(connection: sa.Connection, query: Query, state: JobState | None, limit: int) -> list[Job]:
    words = query.words | words_in(f"{query.user} {query.sequence} {state.name if state else ''}")
    bodies = connection.scalars(_statement(query, state, _rarest_first(connection, query.project, words), limit))
    return [replace(codec.load(Job, zlib.decompress(body)), tasks=[]) for body in bodies]


def _rarest_first(connection: sa.Connection, project: str, words: Iterable[str]) -> list[str]:
    """Return the words in the order in which they leave few jobs to look at."""

    def standing_in(word: str) -> int:
        some = sa.select(marks.c.id).where(marks.c.project == project, marks.c.word == word).limit(COUNTED)
        return connection.scalar(sa.select(sa.func.count()).select_from(some.subquery())) or 0

    several = sorted(words)
    return sorted(several, key=standing_in) if len(several) > 1 else several


def _statement(query: Query, state: JobState | None, words: list[str], limit: int) -> sa.Select[Any]:
    first, *others = [marks.alias(f"word{number}") for number in range(max(1, len(words)))]
    wanted = (
        sa.select(history.c.body)
        .select_from(
            reduce(
                lambda source, mark: source.join(mark, mark.c.id == first.c.id),
                others,
                sa.join(first, history, history.c.id == first.c.id),
            )
        )
        .where(*_conditions(query, first), *([history.c.state == int(state)] if state else []))
        .order_by(first.c.id.desc())
        .limit(limit)
    )
    for mark, word in zip((first, *others), words or [EVERY], strict=True):
        wanted = wanted.where(mark.c.project == query.project, mark.c.word == word)
    return wanted


def _conditions(query: Query, mark: sa.FromClause) -> Iterator[sa.ColumnElement[bool]]:
    if query.ids:
        yield mark.c.id.in_(query.ids)
    if query.user:
        yield history.c.owner == query.user
    if query.sequence:
        yield history.c.sequence == query.sequence
    if query.ended_after:
        yield history.c.ended > query.ended_after
    if query.before:
        yield mark.c.id < query.before
    if query.above:
        yield mark.c.id > query.above


def sums(connection: sa.Connection, project: str, since: int, kind: Kind) -> dict[Any, Totals]:
    """Return what the jobs of a project came to since a day, by what they are told apart by."""
    by = days.c[kind]
    figures = [
        sa.func.max(days.c[name]) if name.startswith("longest") else sa.func.sum(days.c[name]) for name in _FIGURES
    ]
    wanted = sa.select(by, *figures).where(days.c.project == project, days.c.day >= since).group_by(by).order_by(by)
    return {row[0]: _totals(row[1:]) for row in connection.execute(wanted)}


def _totals(row: Iterable[Any]) -> Totals:
    # PostgreSQL sums whole numbers to decimals.
    figures = dict(zip(_FIGURES, row, strict=True))
    return Totals(**{name: value if name.endswith("_s") else int(value) for name, value in figures.items()})
