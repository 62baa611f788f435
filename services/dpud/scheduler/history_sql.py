"""The history of jobs in the journal's database: whole jobs, the words that find them, and sums by day."""

from __future__ import annotations

import zlib
from dataclasses import asdict, fields
from functools import reduce
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dpud.scheduler import codec
from dpud.scheduler.model import Job
from dpud.scheduler.schema import days, history, marks
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

RETIRE = sa.insert(history)
MARK = sa.insert(marks)
_FIGURES = [field.name for field in fields(Totals)]


def _added(name: str) -> str:
    if name.startswith("longest"):
        return f"{name} = CASE WHEN excluded.{name} > job_day.{name} THEN excluded.{name} ELSE job_day.{name} END"
    return f"{name} = job_day.{name} + excluded.{name}"


COUNT = sa.text(
    f"INSERT INTO job_day ({', '.join([*Slot._fields, *_FIGURES])}) "  # noqa: S608 (the names are our own)
    f"VALUES ({', '.join(f':{name}' for name in [*Slot._fields, *_FIGURES])}) "
    f"ON CONFLICT ({', '.join(Slot._fields)}) DO UPDATE SET {', '.join(map(_added, _FIGURES))}"
)


def packing(job: Job) -> Iterator[bytes]:
    """Yield what a job's row has as its body, a part at a time."""
    pack = zlib.compressobj(1)
    for piece in codec.dump_in_pieces(job):
        yield pack.compress(piece)
    yield pack.flush()


def row_of(job: Job, body: bytes | None = None) -> dict[str, Any]:
    """Return the row of a job that leaves the memory, with its body where that was made before."""
    return {
        "id": job.id,
        "project": job.project,
        "owner": job.user,
        "sequence": job.sequence,
        "state": int(job.state),
        "ended": job.ended,
        "body": body or zlib.compress(codec.dump(job), 1),
    }


def marks_of(job: Job) -> list[dict[str, Any]]:
    """Return the rows of its words."""
    return [{"project": job.project, "word": word, "id": job.id} for word in (EVERY, *words_of(job))]


def counts_of(totals: Mapping[Slot, Totals]) -> list[dict[str, Any]]:
    """Return the rows that are added to the sums."""
    return [slot._asdict() | asdict(total) for slot, total in totals.items()]


def find(connection: sa.Connection, query: Query, limit: int) -> list[Job]:
    """Return retired jobs, newest first, at most `limit`."""
    if query.states:
        # Each in its own order by its own word: of those that failed, few stand among many that did not.
        ended = [state for state in query.states if state.ended]
        found = merge(*(_find(connection, query, state, limit) for state in ended), key=lambda job: -job.id)
        return list(islice(found, limit))
    return _find(connection, query, None, limit)


def _find(connection: sa.Connection, query: Query, state: JobState | None, limit: int) -> list[Job]:
    words = query.words | words_in(f"{query.user} {query.sequence} {state.name if state else ''}")
    bodies = connection.scalars(_statement(query, state, _rarest_first(connection, query.project, words), limit))
    return [codec.load(Job, zlib.decompress(body)) for body in bodies]


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
