"""Which pieces of which jobs are known, in memory, and who reads them: nothing goes away under a reader's eyes."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

T = TypeVar("T")

#: Jobs whose pieces stay known.
KEPT = 4096


class Shelf(Generic[T]):
    """Lists of pieces by job, which whoever fills this may change in place.

    `load` finds the pieces of a job, `discard` does away with pieces that others have replaced.
    """

    def __init__(
        self, load: Callable[[int], Awaitable[list[T]]], discard: Callable[[list[T]], Awaitable[None]]
    ) -> None:
        self._load = load
        self._discard = discard
        self._jobs: dict[int, list[T]] = {}
        self._users: Counter[int] = Counter()
        self._stale: defaultdict[int, list[T]] = defaultdict(list)
        self._forgotten = 0
        #: Jobs that are being written to.
        self.busy: set[int] = set()

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._jobs

    async def pieces(self, job_id: int) -> list[T]:
        """Return the pieces of a job, for its one writer."""
        while job_id not in self._jobs:
            forgotten = self._forgotten
            found = await self._load(job_id)
            # What was found while a job was forgotten may have been that job's.
            if forgotten == self._forgotten:
                self.put(job_id, found)
        return self._jobs[job_id]

    def put(self, job_id: int, pieces: list[T]) -> None:
        """Note the pieces of a job, unless they are known by now; let go of others that nobody uses."""
        if job_id in self._jobs:
            return
        self._jobs[job_id] = pieces
        if len(self._jobs) > KEPT:
            self._let_go(job_id)

    def _let_go(self, newest: int) -> None:
        """Forget the oldest jobs, several at once: to look for one among all of them takes as long."""
        kept = self.busy | self._users.keys() | {newest}
        free = [each for each in self._jobs if each not in kept]
        for each in free[: len(self._jobs) - KEPT + KEPT // 8]:
            del self._jobs[each]

    @asynccontextmanager
    async def using(self, job_id: int) -> AsyncIterator[list[T]]:
        """Give the pieces of a job; none of them goes away within the block, unless the job is forgotten."""
        pieces = await self.pieces(job_id)
        self._users[job_id] += 1
        try:
            yield pieces
        finally:
            self._users[job_id] -= 1
            if not self._users[job_id]:
                del self._users[job_id]
                await self._discard(self._stale.pop(job_id, []))

    def holds(self, job_id: int, piece: T) -> bool:
        """Return whether this very piece is one of the job's."""
        return any(each is piece for each in self._jobs.get(job_id, []))

    def replace(self, job_id: int, run: list[T], joined: T) -> None:
        """Put one piece in the place of several that the shelf holds. For use within `using`."""
        pieces = self._jobs[job_id]
        at = next(at for at, each in enumerate(pieces) if each is run[0])
        pieces[at : at + len(run)] = [joined]
        self._stale[job_id] += run

    def forget(self, job_id: int) -> None:
        """Know nothing of a job any more: pieces of the same names may come again."""
        self._forgotten += 1
        self._jobs.pop(job_id, None)
        self._stale.pop(job_id, None)
