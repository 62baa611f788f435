"""The leases that a worker holds, and what the scheduler must still hear of them: bookkeeping, and nothing else."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import TYPE_CHECKING, TypeAlias

from dpu_api.v1.dispatch_pb2 import HeldLease, TaskLease, TaskReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dpu_api.v1.job_pb2 import TaskRef

Key: TypeAlias = "tuple[int, int, int]"

#: Shorter tasks are fetched ahead, so that a slot never waits for the network between two of them.
AHEAD_S = 0.1
#: A worker that runs longer tasks takes none that another could start at once.
SHORT_S = 2.0
#: At most so many a slot are fetched ahead.
AHEAD_MOST = 64
#: Tasks are given to a process together as long as they are done in about this time.
TOGETHER_S = 0.05
#: Reports wait so long for company, or half as long as what waits here lasts, up to LONGEST_LINGER_S.
LINGER_S = 0.002
LONGEST_LINGER_S = 0.05
#: Weight of the newest task in the mean run time.
NEWEST = 0.2


def key_of(ref: TaskRef) -> Key:
    """Return an attempt as a key."""
    return ref.job_id, ref.task, ref.attempt


def memory_of(lease: TaskLease) -> int:
    """Return the memory that a lease's task may use, MiB; 0 where nobody said."""
    return lease.limits.memory_mib or lease.spec.memory_mib


def _alike(lease: TaskLease, other: TaskLease) -> bool:
    """Return whether two leases may run in one process, one after the other, without a word in between."""
    if lease is other:
        return True
    return not (lease.plan or other.plan or lease.alone or other.alone) and _kind(lease) == _kind(other)


def _kind(lease: TaskLease) -> tuple[str, str, str, int]:
    return lease.user, lease.project, lease.code_digest, memory_of(lease)


@dataclass(frozen=True, slots=True)
class Demand:
    """What a worker tells at once: its reports, what it holds, what it can take."""

    ended: list[TaskReport]
    held: list[HeldLease]
    room: int
    memory_mib: int


class Leases:
    """Leases that wait, leases that run, and reports until they are acknowledged."""

    def __init__(self, slots: int, memory_mib: int) -> None:
        self._slots = slots
        self._memory_mib = memory_mib
        self._waiting: deque[TaskLease] = deque()
        self._running: dict[Key, TaskLease] = {}
        # The memory of each slot in use.
        self._busy: list[int] = []
        self._reports: dict[Key, TaskReport] = {}
        # Reports that were told, and not acknowledged yet.
        self._told: set[Key] = set()
        self._mean_s: float | None = None

    def take(self, leases: Iterable[TaskLease]) -> None:
        """Put new leases behind those that wait; one that is held already is the same one."""
        known = {key_of(lease.ref) for lease in self._waiting} | self._running.keys() | self._reports.keys()
        self._waiting.extend(lease for lease in leases if key_of(lease.ref) not in known)

    def start(self) -> list[TaskLease]:
        """Return the leases that run next, one after the other in one process; none where no slot or memory is free.

        They count as running from now on, and the slot is in use until it is `freed`.
        """
        if not self._waiting or len(self._busy) >= self._slots:
            return []
        first = self._waiting[0]
        # One that asks for more than there is runs alone.
        if self._busy and memory_of(first) > self._memory_mib - sum(self._busy):
            return []
        leases = list(islice(takewhile(lambda lease: _alike(lease, first), self._waiting), self._together()))
        for lease in leases:
            self._running[key_of(lease.ref)] = self._waiting.popleft()
        self._busy.append(memory_of(first))
        return leases

    def _together(self) -> int:
        """Return how many leases one slot may take at once: short ones, and its share of what waits."""
        idle = self._slots - len(self._busy)
        return max(1, min(-(-len(self._waiting) // idle), int(TOGETHER_S / (self._mean_s or TOGETHER_S))))

    def freed(self, lease: TaskLease) -> None:
        """Note that a slot is free again, which was used by `lease` and those that came with it."""
        self._busy.remove(memory_of(lease))

    def put_back(self, leases: Sequence[TaskLease]) -> None:
        """Let leases wait again, before all others: their slot did not come to begin them."""
        taken = [lease for lease in leases if self._running.pop(key_of(lease.ref), None)]
        self._waiting.extendleft(reversed(taken))

    def end(self, report: TaskReport) -> None:
        """Take the report of a lease that ended, or is handed back."""
        self.forget(report.ref)
        self._reports[key_of(report.ref)] = report
        if report.run_s:
            mean = report.run_s if self._mean_s is None else self._mean_s
            self._mean_s = mean + NEWEST * (report.run_s - mean)

    def forget(self, ref: TaskRef) -> None:
        """Let go of a lease that is another's by now, or whose end was told otherwise; there is nothing to report."""
        key = key_of(ref)
        self._reports.pop(key, None)
        if self._running.pop(key, None) is None:
            self._waiting = deque(lease for lease in self._waiting if key_of(lease.ref) != key)

    def hand_back(self) -> list[TaskLease]:
        """Return the leases that wait, which now belong to nobody here."""
        waiting, self._waiting = list(self._waiting), deque()
        return waiting

    def demand(self, *, renewing: bool = True) -> Demand:
        """Return what is to be said next; its reports are not told again before `retell`.

        Only what is `renewing` names all that is held.
        """
        ended = [report for key, report in self._reports.items() if key not in self._told]
        self._told |= {key_of(report.ref) for report in ended}
        held = []
        if renewing:
            held += [HeldLease(ref=lease.ref, token=lease.token, started=True) for lease in self._running.values()]
            held += [HeldLease(ref=lease.ref, token=lease.token) for lease in self._waiting]
        wanted = self._slots + self._ahead() - len(self._running) - len(self._waiting)
        return Demand(ended, held, max(0, wanted), max(0, self._free_mib()))

    def acknowledged(self, refs: Iterable[TaskRef]) -> None:
        """Note that reports are durable with the scheduler: they are done with."""
        for ref in refs:
            key = key_of(ref)
            self._reports.pop(key, None)
            self._told.discard(key)

    def retell(self) -> None:
        """Note that what was told so far may never have been heard."""
        self._told.clear()

    def _free_mib(self) -> int:
        """Return the memory for further leases: those that wait will have it one after the other."""
        rounds = 1 + -(-self._ahead() // self._slots)
        return rounds * self._memory_mib - sum(map(memory_of, [*self._running.values(), *self._waiting]))

    def _ahead(self) -> int:
        """Return how many leases may wait here while others run."""
        if self._mean_s is None or self._mean_s > SHORT_S:
            return 0
        return min(self._slots * AHEAD_MOST, max(1, round(self._slots * AHEAD_S / max(self._mean_s, 1e-4))))

    @property
    def linger_s(self) -> float:
        """How long a report may wait for others, so that they travel together and no slot becomes idle."""
        lasts_s = len(self._waiting) * (self._mean_s or 0.0) / self._slots
        return min(LONGEST_LINGER_S, max(LINGER_S, lasts_s / 2))

    @property
    def running(self) -> list[TaskLease]:
        """The leases whose task runs."""
        return list(self._running.values())

    @property
    def waiting(self) -> list[TaskLease]:
        """The leases whose task waits for a slot."""
        return list(self._waiting)

    @property
    def dry(self) -> bool:
        """Whether a slot is idle and nothing waits for it."""
        return not self._waiting and len(self._busy) < self._slots

    @property
    def done(self) -> bool:
        """Whether nothing is held and nothing is left to tell."""
        return not (self._waiting or self._running or self._reports)
