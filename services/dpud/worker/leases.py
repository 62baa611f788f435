"""The leases that a worker holds, and what the scheduler must still hear of them: bookkeeping, and nothing else."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from dpu_api.v1.dispatch_pb2 import HeldLease, TaskLease, TaskReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from dpu_api.v1.job_pb2 import TaskRef

Key: TypeAlias = "tuple[int, int, int]"

#: Shorter tasks are fetched ahead, so that a slot never waits for the network between two of them.
AHEAD_S = 0.1
#: A worker that runs longer tasks takes none that another could start at once.
SHORT_S = 2.0
#: At most so many a slot are fetched ahead.
AHEAD_MOST = 256
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


def _alike(leases: Iterable[TaskLease]) -> Iterator[TaskLease]:
    """Give the first of some leases, and those after it that may run behind it in its process without a word."""
    kind = None
    for lease in leases:
        if kind is None:
            kind = _kind(lease)
        elif lease.plan or lease.alone or _kind(lease) != kind:
            return
        yield lease
        if lease.plan or lease.alone:
            return


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
        self._waiting: OrderedDict[Key, TaskLease] = OrderedDict()
        self._running: dict[Key, TaskLease] = {}
        # The memory of all of them.
        self._held_mib = 0
        # The memory of each slot in use.
        self._busy: list[int] = []
        self._reports: dict[Key, TaskReport] = {}
        # Reports that were told, and not acknowledged yet.
        self._told: set[Key] = set()
        self._mean_s: float | None = None

    def take(self, leases: Iterable[TaskLease]) -> None:
        """Put new leases behind those that wait; one that is held already is the same one."""
        for lease in leases:
            key = key_of(lease.ref)
            if not (key in self._waiting or key in self._running or key in self._reports):
                self._waiting[key] = lease
                self._held_mib += memory_of(lease)

    def start(self) -> list[TaskLease]:
        """Return the leases that run next, one after the other in one process; none where no slot or memory is free.

        They count as running from now on, and the slot is in use until it is `freed`.
        """
        if not self._waiting or len(self._busy) >= self._slots:
            return []
        first_mib = memory_of(next(iter(self._waiting.values())))
        # One that asks for more than there is runs alone.
        if self._busy and first_mib > self._memory_mib - sum(self._busy):
            return []
        leases = list(islice(_alike(self._waiting.values()), self._together()))
        self._running |= (self._waiting.popitem(last=False) for _ in leases)
        self._busy.append(first_mib)
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
        for lease in reversed(leases):
            key = key_of(lease.ref)
            if self._running.pop(key, None):
                self._waiting[key] = lease
                self._waiting.move_to_end(key, last=False)

    def end(self, report: TaskReport) -> None:
        """Take the report of a lease that ended, or is handed back."""
        key = key_of(report.ref)
        self._let_go(key)
        self._reports[key] = report
        if report.run_s:
            mean = report.run_s if self._mean_s is None else self._mean_s
            self._mean_s = mean + NEWEST * (report.run_s - mean)

    def forget(self, ref: TaskRef) -> None:
        """Let go of a lease that is another's by now, or whose end was told otherwise; there is nothing to report."""
        key = key_of(ref)
        self._reports.pop(key, None)
        self._let_go(key)

    def _let_go(self, key: Key) -> None:
        if lease := self._running.pop(key, None) or self._waiting.pop(key, None):
            self._held_mib -= memory_of(lease)

    def hand_back(self) -> list[TaskLease]:
        """Return the leases that wait, which now belong to nobody here."""
        waiting = self.waiting
        for key in list(self._waiting):
            self._let_go(key)
        return waiting

    def demand(self, *, renewing: bool = True) -> Demand:
        """Return what is to be said next; its reports are not told again before `retell`.

        Only what is `renewing` names all that is held.
        """
        untold = [key for key in self._reports if key not in self._told]
        self._told.update(untold)
        held = []
        if renewing:
            held += [HeldLease(ref=lease.ref, token=lease.token, started=True) for lease in self._running.values()]
            held += [HeldLease(ref=lease.ref, token=lease.token) for lease in self._waiting.values()]
        wanted = self._slots + self._ahead() - len(self._running) - len(self._waiting)
        return Demand([self._reports[key] for key in untold], held, max(0, wanted), max(0, self._free_mib()))

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
        return rounds * self._memory_mib - self._held_mib

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
        return list(self._waiting.values())

    def waits(self, ref: TaskRef) -> TaskLease | None:
        """Return the lease whose task waits for a slot; None where none of this attempt does."""
        return self._waiting.get(key_of(ref))

    @property
    def dry(self) -> bool:
        """Whether a slot is idle and nothing waits for it."""
        return not self._waiting and len(self._busy) < self._slots

    @property
    def done(self) -> bool:
        """Whether nothing is held and nothing is left to tell."""
        return not (self._waiting or self._running or self._reports)
