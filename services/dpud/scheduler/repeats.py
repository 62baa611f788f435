"""A new job that does again what an ended one did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpu.errors import UsageError
from dpud.scheduler import allowances, deposits, jobs
from dpud.scheduler.events import Event, JobSubmitted
from dpud.scheduler.model import TaskPlan, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dpud.scheduler.commands import Repeat
    from dpud.scheduler.model import State, Task


def repeat(state: State, command: Repeat, now: float) -> list[Event]:
    """Decide on a job that repeats an ended one; a repeated request changes nothing."""
    if jobs.was_taken(state, command, now):
        return []
    old = command.job
    if not old.state.ended:
        raise UsageError(f"job {old.id} has not ended: wait for it, or cancel it first")
    here = deposits.of(state, command.deposit)
    size = len(old.options) + here.size + sum(task.size for task in command.tasks)
    allowances.check_queued(state, command.user, command.project, len(here.tasks) + len(command.tasks), size)
    stages = old.stages[command.stage :]
    return [
        JobSubmitted(
            job=state.free_number,
            at=now,
            request_id=command.request_id,
            digest=command.digest,
            user=command.user,
            project=command.project,
            sequence=old.sequence,
            stages=stages,
            options=old.options,
            code_digest=old.code_digest,
            limits=old.limits,
            priority=old.priority,
            commit=old.commit,
            estimate_s=jobs.whole_estimate(
                state, command.project, old.instrument, stages, [*here.tasks, *command.tasks]
            ),
            tasks=command.tasks,
            instrument=old.instrument,
            deposit=command.deposit,
            code_description=old.code_description,
        )
    ]


def first_failed(tasks: Iterable[Task]) -> Task | None:
    """Return the first of some tasks that did not end well, None where all did: a plan comes before what it planned."""
    failed = filter(_did_not_end_well, tasks)
    return min(failed, key=lambda task: (task.stage, not task.plan), default=None)


def _did_not_end_well(task: Task) -> bool:
    return task.state is not TaskState.SUCCEEDED


def plans_again(tasks: Iterable[Task], first: Task, *, only_failed: bool) -> list[TaskPlan]:
    """Return those of some tasks that are done again when it begins with the stage of `first`.

    None where that is a plan, which is to say them anew. A task keeps the memory that it turned out to need.
    """
    return [
        TaskPlan(task.label, task.spec, task.seconds, task.memory_mib)
        for task in tasks
        if not (first.plan or task.plan) and task.stage == first.stage and (_did_not_end_well(task) or not only_failed)
    ]
