"""Where records of logs are kept: the port, and the adapter that keeps them in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dpud.logs.record import Record, weight

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Placed:
    """A record that readers see, and the offset of its first line."""

    offset: int
    record: Record


@dataclass(frozen=True, slots=True)
class Held:
    """What retention asks of a job."""

    #: When it was last appended to, in seconds since 1970.
    last: float
    #: The state in which it was sealed, a number of dpu_api.v1.JobState; None: it was not.
    ended: int | None = None


class LogRecords(Protocol):
    """Records of jobs, each job's in the order in which they were appended."""

    async def append(self, groups: Mapping[int, Sequence[Record]]) -> None:
        """Keep records by job, all of them durable on return.

        Raises StorageFull, and then none of them was kept.
        """

    async def read(self, job_id: int, offset: int, budget: int) -> list[Placed]:
        """Return what readers see from the record that holds `offset` on, about `budget` bytes; nothing at the end."""

    async def replay(self, job_id: int, apply: Callable[[Record], None]) -> None:
        """Call `apply` with every record of the job, in order."""


class LogShelf(Protocol):
    """Whole jobs: what is kept, compressed and removed."""

    async def jobs(self) -> Mapping[int, Held]:
        """Return the jobs that are here."""

    async def seal(self, job_id: int, state: int) -> None:
        """Compress and join what a job that has ended with `state` left behind; what readers see stays the same."""

    async def remove(self, job_id: int) -> None:
        """Forget a job, at once and as a whole."""


class LogStore(LogRecords, LogShelf, Protocol):
    """Where the log service keeps everything."""


class MemoryLogStore:
    """Keeps records as long as the process lives. `clock` gives seconds since 1970."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._records: dict[int, list[Record]] = {}
        self._held: dict[int, Held] = {}

    async def append(self, groups: Mapping[int, Sequence[Record]]) -> None:
        """Keep records by job."""
        for job_id, records in groups.items():
            self._records.setdefault(job_id, []).extend(records)
            held = self._held.get(job_id, Held(0))
            self._held[job_id] = Held(self._clock(), held.ended)

    async def read(self, job_id: int, offset: int, budget: int) -> list[Placed]:
        """Return what readers see from `offset` on; as many records as fit in `budget`, counted by their text."""
        found: list[Placed] = []
        at = 0
        for record in self._records.get(job_id, []):
            if budget > 0 and weight(record) and at + weight(record) > offset:
                found.append(Placed(at, record))
                budget -= len(repr(record))
            at += weight(record)
        return found

    async def replay(self, job_id: int, apply: Callable[[Record], None]) -> None:
        """Call `apply` with every record of the job."""
        for record in self._records.get(job_id, []):
            apply(record)

    async def jobs(self) -> Mapping[int, Held]:
        """Return the jobs that are here."""
        return dict(self._held)

    async def seal(self, job_id: int, state: int) -> None:
        """Note how the job ended."""
        if held := self._held.get(job_id):
            self._held[job_id] = Held(held.last, state)

    async def remove(self, job_id: int) -> None:
        """Forget a job."""
        self._records.pop(job_id, None)
        self._held.pop(job_id, None)
