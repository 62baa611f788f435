"""The life of an attempt: leased to a worker, ended, lapsed, tried again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dpud.scheduler import experience, ledger, retries
from dpud.scheduler.commands import Report
from dpud.scheduler.events import Event, TaskEnded, TaskLeased, TaskRequeued, TasksDue
from dpud.scheduler.model import (
    LEASE_TERM_S,
    Failure,
    FailureCategory,
    Job,
    JobState,
    Key,
    Ref,
    State,
    Task,
    TaskState,
)
from dpud.scheduler.presence import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterable


# Deciding


def report(state: State, command: Report, now: float) -> list[Event]:
    """Decide on the end of an attempt; one that no lease stands for changes nothing."""
    if not state.holds(command.ref, command.token):
        return []
    job, task = state.jobs[command.ref.job], state.jobs[command.ref.job].tasks[command.ref.task]
    failure = command.failure
    if failure is None and task.plan:
        failure = Failure(FailureCategory.CODE, "the worker ended a plan without its tasks: its version does not fit")
    if failure is None:
        return [_ended(command, TaskState.SUCCEEDED, None, now)]
    if job.cancellation and not _is_own(failure):
        return [cancelled(command, now)]
    return [_failed(state, command, failure, now)]


def _is_own(failure: Failure) -> bool:
    return retries.is_final(failure.category) and failure.category is not FailureCategory.CANCELLED


def cancelled(command: Report, now: float) -> TaskEnded:
    """Return the end of an attempt whose job was cancelled."""
    failure = command.failure or Failure(FailureCategory.CANCELLED, "cancelled while it ran")
    return _ended(command, TaskState.CANCELLED, failure, now)


def _ended(command: Report, to: TaskState, failure: Failure | None, now: float) -> TaskEnded:
    return TaskEnded(
        *command.ref,
        at=now,
        state=to,
        run_s=sound(command.run_s),
        log_lines=command.log_lines,
        products=command.products,
        failure=failure,
    )


def sound(seconds: float) -> float:
    """Return a reported time that can be counted with."""
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _failed(state: State, command: Report, failure: Failure, now: float, *, charged: bool = True) -> Event:
    job, task = state.jobs[command.ref.job], state.jobs[command.ref.job].tasks[command.ref.task]
    goes_on: retries.Retry | Failure = retries.Retry(0.0, task.memory_mib)
    if charged:
        failed = retries.Failed(command.ref, failure, alone=command.alone or task.is_suspect)
        goes_on = retries.next_try(task, failed, job.limits, state.presence.memory_mib)
    if isinstance(goes_on, Failure):
        to = TaskState.CANCELLED if failure.category is FailureCategory.CANCELLED else TaskState.FAILED
        return _ended(command, to, goes_on, now)
    return TaskRequeued(
        *command.ref,
        at=now,
        failure=failure,
        run_s=sound(command.run_s),
        log_lines=command.log_lines,
        products=command.products,
        due=now + goes_on.pause_s,
        memory_mib=goes_on.memory_mib,
        crashes=goes_on.crashes,
        losses=goes_on.losses,
    )


def lapses(state: State, now: float) -> list[Event]:
    """Decide which leases have lapsed."""
    over = [key for key, deadline in state.presence.deadlines.items() if deadline.at <= now]
    return [lost(state, key, now, charged=state.presence.deadlines[key].charged) for key in over]


def lost(state: State, key: Key, now: float, *, charged: bool) -> Event:
    """Decide on a lease whose worker is gone or cut off."""
    job, task = state.jobs[key.job], state.jobs[key.job].tasks[key.task]
    failure = Failure(FailureCategory.WORKER_LOST, f"worker {task.worker} was lost while it ran")
    gone = Report(ref=Ref(*key, task.attempt), token=task.token, failure=failure, run_s=now - task.started, products=-1)
    return cancelled(gone, now) if job.cancellation else _failed(state, gone, failure, now, charged=charged)


def due(state: State, now: float) -> list[Event]:
    """Decide which tasks have waited long enough to be offered again."""
    keys = tuple(key for key, at in state.delayed.items() if at <= now)
    return [TasksDue(keys)] if keys else []


# Applying


def leased(state: State, event: TaskLeased) -> None:
    """Give a task to a worker; the first lease of a job starts it."""
    job = state.jobs[event.job]
    ref = Ref(event.job, event.task, event.attempt)
    ledger.lease(state, ref, at=event.at, token=event.token, worker=event.worker, charge=event.charge)
    state.presence.deadlines[ref.key] = Deadline(event.at + LEASE_TERM_S)
    if job.state is JobState.QUEUED:
        job.state, job.started = JobState.RUNNING, event.at
    ledger.touch(state, job)


def ended(state: State, event: TaskEnded) -> None:
    """End a task for good."""
    job, task, ref = _attempt(state, event)
    ledger.release(state, ref, event.state, at=event.at, run_s=event.run_s)
    good = event.state is TaskState.SUCCEEDED
    if event.failure and event.failure.category is FailureCategory.WORKER_LOST:
        task.token = ""
    if good and not task.plan:
        # The failure is that of the attempt before: it had less memory then.
        grew = task.failure is not None and task.failure.category is FailureCategory.OUT_OF_MEMORY
        memory_mib = task.memory_mib if grew else 0
        experience.learn(state.experience, job.kind(task.stage), event.run_s, memory_mib)
    task.failure = event.failure
    job.failure = job.failure or (event.failure if event.state is TaskState.FAILED else None)
    job.succeeded += good and not task.plan
    job.failed += not good
    ledger.settle_products(state, ref, good=good, products=event.products)
    ledger.close_task(state, ref, event.state, event.log_lines)
    ledger.touch(state, job)


def requeued(state: State, event: TaskRequeued) -> None:
    """End an attempt, and let its task wait for the next."""
    job, task, ref = _attempt(state, event)
    is_lost = event.failure.category is FailureCategory.WORKER_LOST
    ledger.release(state, ref, TaskState.LOST if is_lost else TaskState.QUEUED, at=event.at, run_s=event.run_s)
    if is_lost:
        task.token = ""
    task.failure, task.memory_mib = event.failure, event.memory_mib
    task.crashes += event.crashes
    task.losses += event.losses
    ledger.settle_products(state, ref, good=False, products=event.products)
    ledger.close_task(state, ref, TaskState.LOST if is_lost else TaskState.FAILED, event.log_lines)
    _wait(state, ref.key, event.due, event.at)
    ledger.touch(state, job)


def _wait(state: State, key: Key, until: float, now: float) -> None:
    if until > now:
        state.delayed[key] = until
    else:
        ledger.enqueue(state, key)


def _attempt(state: State, event: TaskEnded | TaskRequeued) -> tuple[Job, Task, Ref]:
    job = state.jobs[event.job]
    return job, job.tasks[event.task], Ref(event.job, event.task, event.attempt)


def came_due(state: State, event: TasksDue) -> None:
    """Offer tasks again."""
    for key in event.keys:
        del state.delayed[key]
        ledger.enqueue(state, key)


def held_by(state: State, worker: str) -> Iterable[Key]:
    """Yield the tasks whose lease a worker of this name holds."""
    return (key for key in state.leased if state.jobs[key.job].tasks[key.task].worker == worker)
