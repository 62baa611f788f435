"""Long lists of tasks, which arrive piece by piece: durable as they come, and of no effect before all are here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dpu.errors import Unreachable, UsageError
from dpud.scheduler import catalogue
from dpud.scheduler.events import DepositsDropped, Event, TasksDeposited
from dpud.scheduler.model import Deposit, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpud.scheduler import commands
    from dpud.scheduler.model import State, TaskPlan

#: A list of which nothing came for so long will never be whole: whoever sent it is gone, or the scheduler was.
TERM_S = 60.0

#: What a job has that was taken with all its tasks at once.
NONE = Deposit(0.0)


# Deciding


def deposit(state: State, command: commands.Deposit, now: float) -> list[Event]:
    """Decide on the next tasks of a list."""
    here = state.deposits.get(command.key, NONE)
    if len(here.tasks) != command.before:
        raise Unreachable("a part of the list of tasks is missing: send it again from the beginning")
    check_tasks(command.tasks, command.before)
    labels, specs, seconds, memory_mib = zip(*command.tasks, strict=True)
    return [TasksDeposited(command.key, now, labels, b"".join(specs), tuple(map(len, specs)), seconds, memory_mib)]


def of(state: State, key: str) -> Deposit:
    """Return a list as far as it has come; an empty one without a key. Raises Unreachable where it is gone."""
    if not key:
        return NONE
    if (found := state.deposits.get(key)) is None:
        raise Unreachable("the list of tasks was given up meanwhile: send it again from the beginning")
    return found


def check_tasks(tasks: Sequence[TaskPlan], before: int) -> None:
    """Raise UsageError unless a job can have these tasks, besides so many that it has."""
    check_number(before + len(tasks))
    for task in tasks:
        if not (0 <= task.seconds < math.inf and task.memory_mib >= 0):
            catalogue.check_figures(f"task {task.label!r}", task.seconds, task.memory_mib)


def check_number(tasks: int) -> None:
    """Raise UsageError unless a job can have so many tasks."""
    if tasks > catalogue.MAX_TASKS:
        raise UsageError(f"{tasks} tasks are too many for one job: at most {catalogue.MAX_TASKS}; select less")


def abandon(state: State, command: commands.Abandon, _now: float) -> list[Event]:
    """Decide on a list that will not become whole."""
    return [DepositsDropped((command.key,))] if command.key in state.deposits else []


def left(state: State, now: float) -> list[Event]:
    """Decide which lists nobody goes on with."""
    keys = tuple(key for key, found in state.deposits.items() if found.at + TERM_S <= now)
    return [DepositsDropped(keys)] if keys else []


# Applying


def deposited(state: State, event: TasksDeposited) -> None:
    """Keep tasks, ready to be a job's."""
    here = state.deposits.setdefault(event.key, Deposit(event.at))
    here.at = event.at
    first = 0
    for label, size, seconds, memory_mib in zip(
        event.labels, event.sizes, event.seconds, event.memory_mib, strict=True
    ):
        here.tasks.append(Task(0, False, label, event.specs[first : first + size], seconds, memory_mib))
        first += size
    here.size += first + sum(map(len, event.labels))


def dropped(state: State, event: DepositsDropped) -> None:
    """Forget lists."""
    for key in event.keys:
        del state.deposits[key]


def taken(state: State, key: str, rest: Sequence[TaskPlan]) -> Deposit:
    """Return a whole list, no longer kept: what came before, and the rest."""
    here = state.deposits.pop(key) if key else Deposit(0.0)
    here.tasks += [Task(0, False, plan.label, plan.spec, plan.seconds, plan.memory_mib) for plan in rest]
    here.size += sum(plan.size for plan in rest)
    return here
