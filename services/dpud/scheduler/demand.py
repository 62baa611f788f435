"""How many slots are wanted for tasks of one class of memory: those that run, and those that may run now."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from dpud.scheduler import allowances

if TYPE_CHECKING:
    from collections.abc import Collection

    from dpud.scheduler.model import Job, Key, Party, State

#: So many tasks of a job are looked at, one by one; the rest of a longer line needs what the last of them needs.
LOOKED_AT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Class:
    """Tasks that need more memory than `above_mib`, and at most `up_to_mib`."""

    above_mib: int = -1
    up_to_mib: int = sys.maxsize

    def __contains__(self, memory_mib: int) -> bool:
        return self.above_mib < memory_mib <= self.up_to_mib


def wanted(state: State, kind: Class) -> int:
    """Return how many slots are wanted for tasks of a class."""
    return running(state, kind) + allowed(state, kind)


def running(state: State, kind: Class) -> int:
    """Return how many tasks of a class run."""
    return sum(_memory(state, key) in kind for key in state.leased)


def _memory(state: State, key: Key) -> int:
    return state.jobs[key.job].tasks[key.task].memory_mib


def allowed(state: State, kind: Class) -> int:
    """Return how many tasks of a class are queued and, by what users and projects may have, could run now."""
    granted: Counter[Party] = Counter()
    total = 0
    for line in state.waiting.lines.values():
        for number, tasks in line:
            job = state.jobs[number]
            count = min(_of_class(job, tasks, kind), _room(state, job, granted))
            granted.update(dict.fromkeys(allowances.parties(job), count))
            total += count
    return total


def _of_class(job: Job, tasks: Collection[int], kind: Class) -> int:
    return sum(count for memory_mib, count in needs(job, tasks).items() if memory_mib in kind)


def needs(job: Job, tasks: Collection[int]) -> Counter[int]:
    """Return how many of a job's waiting tasks need so much memory: beyond the first, as many as the last of those."""
    looked_at = [job.tasks[task].memory_mib for task in islice(tasks, LOOKED_AT)]
    found = Counter(looked_at)
    if len(tasks) > len(looked_at):
        found[looked_at[-1]] += len(tasks) - len(looked_at)
    return found


def _room(state: State, job: Job, granted: Counter[Party]) -> int:
    """Return how many more tasks of a job its user and its project may run."""
    user, project = allowances.parties(job)
    taken = {user: state.running.get(job.user, 0), project: state.running_in.get(job.project, 0)}
    return min(_left(state, party, count + granted[party]) for party, count in taken.items())


def _left(state: State, party: Party, taken: int) -> int:
    limit = allowances.of(state, party).running
    return max(0, limit - taken) if limit else sys.maxsize
