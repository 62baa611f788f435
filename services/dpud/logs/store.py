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


class LogStore(Protocol):
    """Records of jobs, each job's in the order in which they were appended."""

    async def append(self, groups: Mapping[int, Sequence[Record]]) -> None:
        """Keep records by job, all of them durable on return.

        Raises StorageFull, and then none of them was kept.
        """

    async def read(self, job_id: int, offset: int, budget: int) -> list[Placed]:
        """Return what readers see from the record that holds `offset` on, about `budget` bytes; nothing at the end."""

    async def replay(self, job_id: int, apply: Callable[[Record], None]) -> None:
        """Call `apply` with every record of the job, in order."""

    async def ages(self) -> Mapping[int, float]:
        """Return when each job was last appended to, in seconds since 1970."""

    async def remove(self, job_id: int) -> None:
        """Forget a job, at once and as a whole."""


class MemoryLogStore:
    """Keeps records as long as the process lives. `clock` gives seconds since 1970."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._jobs: dict[int, list[Record]] = {}
        self._ages: dict[int, float] = {}

    async def append(self, groups: Mapping[int, Sequence[Record]]) -> None:
        """Keep records by job."""
        for job_id, records in groups.items():
            self._jobs.setdefault(job_id, []).extend(records)
            self._ages[job_id] = self._clock()

    async def read(self, job_id: int, offset: int, budget: int) -> list[Placed]:
        """Return what readers see from `offset` on; as many records as fit in `budget`, counted by their text."""
        found: list[Placed] = []
        at = 0
        for record in self._jobs.get(job_id, []):
            if budget > 0 and weight(record) and at + weight(record) > offset:
                found.append(Placed(at, record))
                budget -= len(repr(record))
            at += weight(record)
        return found

    async def replay(self, job_id: int, apply: Callable[[Record], None]) -> None:
        """Call `apply` with every record of the job."""
        for record in self._jobs.get(job_id, []):
            apply(record)

    async def ages(self) -> Mapping[int, float]:
        """Return when each job was last appended to."""
        return dict(self._ages)

    async def remove(self, job_id: int) -> None:
        """Forget a job."""
        self._jobs.pop(job_id, None)
        self._ages.pop(job_id, None)
