"""Whether a task is tried again: one rule a failure category, two budgets."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dpud.scheduler.model import Failure, FailureCategory, Limits

if TYPE_CHECKING:
    from dpud.scheduler.model import Ref, Task

#: A task that crashed so often is set aside.
CRASH_BUDGET = 3
#: A task is tried again after so many lost workers and unreachable services.
LOSS_BUDGET = 5
#: Pauses before the next attempt double from the first up to the longest.
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0

_NEVER = {FailureCategory.RECIPE, FailureCategory.CODE, FailureCategory.TIME_LIMIT, FailureCategory.CANCELLED}


@dataclass(frozen=True, slots=True)
class Retry:
    """How a task goes on."""

    pause_s: float
    memory_mib: int
    crashes: int = 0
    losses: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt that did not end normally."""

    ref: Ref
    failure: Failure
    #: Nothing else ran in its process.
    alone: bool


def next_try(task: Task, failed: Failed, limits: Limits, largest_mib: int) -> Retry | Failure:
    """Return how the task goes on, or the failure that it ends with.

    `largest_mib` is the memory of the largest worker, 0 where none is known.
    """
    ref, failure = failed.ref, failed.failure
    match failure.category:
        case FailureCategory.OUT_OF_MEMORY:
            return _more_memory(task, failure, limits, largest_mib)
        case FailureCategory.CRASH:
            if not failed.alone:
                # What ran before it in that process may have done it: the task is a suspect, and runs alone next.
                return Retry(pause(ref, 0), task.memory_mib)
            if task.crashes + 1 >= CRASH_BUDGET:
                return _given_up(failure, f"set aside after {CRASH_BUDGET} crashes alone in a process")
            return Retry(pause(ref, task.crashes), task.memory_mib, crashes=1)
        case FailureCategory.WORKER_LOST | FailureCategory.INFRASTRUCTURE:
            if task.losses >= LOSS_BUDGET:
                return _given_up(failure, f"given up after {LOSS_BUDGET + 1} attempts")
            lost = failure.category is FailureCategory.WORKER_LOST
            return Retry(0.0 if lost else pause(ref, task.losses), task.memory_mib, losses=1)
        case FailureCategory.WORKER_DRAINED:
            return Retry(0.0, task.memory_mib)
        case _:
            return failure


def is_final(category: FailureCategory) -> bool:
    """Return whether such a failure is the task's own, and not of what it ran on."""
    return category in _NEVER


def pause(ref: Ref, before: int) -> float:
    """Return the seconds before the next attempt, after so many before: doubled, and spread by up to a half."""
    spread = 1.0 + zlib.crc32(repr(tuple(ref)).encode()) / 2**33
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**before) * spread


def _more_memory(task: Task, failure: Failure, limits: Limits, largest_mib: int) -> Retry | Failure:
    if limits.memory_mib:
        return _given_up(failure, f"it may use {limits.memory_mib} MiB (dpu_mem); allow more")
    wanted = 2 * max(task.memory_mib, 1)
    memory_mib = min(wanted, largest_mib) if largest_mib else wanted
    if memory_mib <= task.memory_mib:
        return _given_up(failure, f"it had {task.memory_mib} MiB and the largest worker has {largest_mib} MiB")
    return Retry(0.0, memory_mib)


def _given_up(failure: Failure, why: str) -> Failure:
    return replace(failure, message=f"{failure.message} ({why})")
