"""A new job that does again what an ended one did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpu.errors import UsageError
from dpud.scheduler import allowances, jobs
from dpud.scheduler.events import Event, JobSubmitted
from dpud.scheduler.model import TaskPlan, TaskState

if TYPE_CHECKING:
    from dpud.scheduler.commands import Repeat
    from dpud.scheduler.model import Job, State, Task


def repeat(state: State, command: Repeat, now: float) -> list[Event]:
    """Decide on a job that repeats an ended one; a repeated request changes nothing."""
    if jobs.was_taken(state, command, now):
        return []
    old = command.job
    if not old.state.ended:
        raise UsageError(f"job {old.id} has not ended: wait for it, or cancel it first")
    stage = _first_failed(old) if command.only_failed else 0
    tasks = _tasks(old, stage, only_failed=command.only_failed)
    size = len(old.options) + sum(task.size for task in tasks)
    allowances.check_queued(state, command.user, command.project, len(tasks), size)
    stages = old.stages[stage:]
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
            estimate_s=jobs.whole_estimate(state, command.project, old.instrument, stages, tasks),
            tasks=tasks,
            instrument=old.instrument,
        )
    ]


def _first_failed(job: Job) -> int:
    """Return the first stage in which something did not end normally. Raises UsageError where all did."""
    failed = [task.stage for task in job.tasks if _did_not_end_well(task)]
    if not failed:
        raise UsageError(f"nothing of job {job.id} failed: there is nothing to do again")
    return min(failed)


def _did_not_end_well(task: Task) -> bool:
    return task.state is not TaskState.SUCCEEDED


def _tasks(job: Job, stage: int, *, only_failed: bool) -> tuple[TaskPlan, ...]:
    """Return the explicit tasks of the new job's first stage; none where a plan is to say them.

    A task keeps the memory that it turned out to need.
    """
    of_stage = [task for task in job.tasks if task.stage == stage]
    if any(task.plan and (_did_not_end_well(task) or not only_failed) for task in of_stage):
        return ()
    return tuple(
        TaskPlan(task.label, task.spec, task.seconds, task.memory_mib)
        for task in of_stage
        if not task.plan and (_did_not_end_well(task) or not only_failed)
    )
