"""Finds jobs, wherever they are: in memory, or in the history."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from heapq import merge
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

from dpu.errors import NotFound, UsageError
from dpud.scheduler.journal import Query

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dpud.scheduler.journal import Past
    from dpud.scheduler.model import Job, State, Task
    from dpud.scheduler.totals import Kind, Totals


class Directory:
    """All jobs that were ever taken."""

    def __init__(self, state: State, past: Past) -> None:
        self._state = state
        self._past = past

    def job(self, number: int, project: str) -> Job:
        """Return a job of the project; whether it has its tasks is open. Raises NotFound."""
        job = self._state.jobs.get(number)
        if job is None and 0 < number < self._state.next_job:
            job = next(iter(self._past.history(Query(project, frozenset({number})), 1)), None)
        if job is None or job.project != project:
            raise NotFound(f"there is no job {number} in project {project!r}")
        return job

    def tasks(self, job: int, first: int, limit: int) -> list[Task]:
        """Return tasks of a job that was taken, from `first` on, at most `limit`."""
        if (known := self._state.jobs.get(job)) is not None:
            return known.tasks[first : first + limit]
        return self._past.tasks(job, first, limit)

    def jobs(self, query: Query, limit: int) -> list[Job]:
        """Return jobs, newest first, at most `limit`."""
        known = self._state.jobs
        # They are kept in the order of their numbers: those that are wanted are soon found.
        candidates: Iterable[Job] = reversed(known.values())
        if query.ids:
            candidates = (known[number] for number in sorted(query.ids, reverse=True) if number in known)
        here = list(islice(filter(query.fits, candidates), limit))
        if len(here) == limit:
            query = replace(query, above=here[-1].id)
        return list(islice(merge(here, self._past.history(query, limit), key=_newest), limit))

    def changed(self, project: str, user: str, after: int) -> list[Job]:
        """Return the jobs in memory that changed after a revision, in the order of theirs."""
        newest_first = (self._state.jobs[number] for number in reversed(self._state.by_revision))
        since = takewhile(lambda job: job.revision > after, newest_first)
        return [job for job in since if job.project == project and user in ("", job.user)][::-1]

    def totals(self, project: str, since: int, kind: Kind) -> dict[Any, Totals]:
        """Return what a project's jobs came to that ended since a day, by day, owner or sequence, in order."""
        return self._past.totals(project, since, kind)


def _newest(job: Job) -> int:
    return -job.id


def page_token(position: int, listing: str) -> str:
    """Return the token for the page behind `position` of a listing."""
    text = f"{position}.{_seal(position, listing)}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def position_of(token: str, listing: str) -> int:
    """Return the position that a token stands for, 0 for none. Raises UsageError for another listing's."""
    if not token:
        return 0
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
        position = int(text.partition(".")[0])
    except ValueError:
        position = 0
    if not position or page_token(position, listing) != token:
        raise UsageError(f"page_token {token[:80]!r} is not one of this listing's: begin without one")
    return position


def _seal(position: int, listing: str) -> str:
    """Return what a made-up token does not have; it guards against mistakes, and opens nothing."""
    return hashlib.blake2b(f"{position} {listing}".encode(), digest_size=6, person=b"dpu.page").hexdigest()
