"""Keeps what is counted in step with the tasks: N/E/A/S/U, the waiting, the leased, the charges, the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dpud.scheduler.model import Entry, Errand, Key, Ref, TaskState
from dpud.scheduler.share import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpud.scheduler.model import Job, State, Task


def touch(state: State, job: Job) -> None:
    """Give the job a new revision."""
    state.revision += 1
    job.revision = state.revision
    state.by_revision[job.id] = None
    state.by_revision.move_to_end(job.id)


def add(state: State, job: Job, tasks: Sequence[Task]) -> None:
    """Add tasks, all alike but for what they work on, to their job; queued ones wait from now on."""
    if not tasks:
        return
    first = len(job.tasks)
    job.tasks += tasks
    job.counts.add(tasks[0].letter, len(tasks))
    if tasks[0].state is TaskState.QUEUED:
        numbers = range(first, len(job.tasks))
        state.waiting.add(job.user, job.priority, job.id, numbers, plan=tasks[0].plan)


def move(job: Job, task: Task, to: TaskState, at: float) -> None:
    """Change a task's state and its letter."""
    job.counts.add(task.letter, -1)
    task.state, task.ended = to, at
    job.counts.add(task.letter, 1)


def enqueue(state: State, key: Key) -> None:
    """Offer a task to whoever claims."""
    job = state.jobs[key.job]
    state.waiting.add(job.user, job.priority, key.job, (key.task,), plan=job.tasks[key.task].plan)


def unqueue(state: State, key: Key) -> None:
    """Take a task away from those that wait, now or until later."""
    if state.delayed.pop(key, None) is None:
        job = state.jobs[key.job]
        state.waiting.remove(job.user, job.priority, *key, plan=job.tasks[key.task].plan)


def cancel_waiting(state: State, job: Job, at: float) -> None:
    """Cancel all that waits of a job, now or until later."""
    if not job.counts.open:
        return
    for task in job.tasks:
        if task.state is TaskState.QUEUED or task.state is TaskState.LOST:
            # Counted below, all at once: there may be very many.
            task.state, task.ended = TaskState.CANCELLED, at
    waited = state.waiting.drop(job.user, job.priority, job.id, len(job.tasks) - 1)
    delayed = [key for key in state.delayed if key.job == job.id]
    for key in delayed:
        del state.delayed[key]
    running = job.counts.open - waited - len(delayed)
    job.counts.aborted += job.counts.open - running
    job.counts.submitted, job.counts.unknown = running, 0


def lease(state: State, ref: Ref, *, at: float, token: str, worker: str, charge: float) -> None:
    """Give a waiting task to a worker, and charge its user."""
    job, task = state.jobs[ref.job], state.jobs[ref.job].tasks[ref.task]
    unqueue(state, ref.key)
    move(job, task, TaskState.RUNNING, 0.0)
    task.attempt, task.token, task.worker, task.charge, task.started = ref.attempt, token, worker, charge, at
    state.leased.add(ref.key)
    state.usage[job.user] = state.usage.get(job.user, Usage()).charged(charge, at)
    state.running[job.user] = state.running.get(job.user, 0) + 1
    state.running_in[job.project] = state.running_in.get(job.project, 0) + 1
    state.grants += 1


def release(state: State, ref: Ref, to: TaskState, *, at: float, run_s: float) -> None:
    """Take a lease back, and correct the charge to what was used."""
    job, task = state.jobs[ref.job], state.jobs[ref.job].tasks[ref.task]
    move(job, task, to, at)
    state.leased.discard(ref.key)
    state.presence.deadlines.pop(ref.key, None)
    state.usage[job.user] = state.usage[job.user].charged(run_s - task.charge, at)
    job.busy_s += run_s
    _count_down(state.running, job.user)
    _count_down(state.running_in, job.project)


def _count_down(counts: dict[str, int], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]


def tell(state: State, errand: Errand, ref: Ref, **particulars: Any) -> None:
    """Put an entry into the outbox, under the next number."""
    job = state.jobs[ref.job]
    number = state.next_entry
    state.outbox[number] = Entry(number, errand, ref, job.project, **particulars)
    state.next_entry += 1
    job.outbox_open += 1
    job.archive_open += errand.for_archive


def close_task(state: State, ref: Ref, ending: TaskState, lines: int) -> None:
    """Have the logs told that an attempt ended."""
    tell(state, Errand.CLOSE_TASK, ref, ending=ending, lines=lines)


def settle_products(state: State, ref: Ref, *, good: bool, products: int) -> None:
    """Have the archive told what an attempt's products are worth; -1: nobody knows whether there are any."""
    if not products:
        return
    if good:
        tell(state, Errand.PUBLISH, ref, commit=state.jobs[ref.job].commit)
    else:
        tell(state, Errand.DISCARD, ref)
