"""What is always true of a state; tests ask after every step."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dpud.scheduler.counts import Counts
from dpud.scheduler.model import Key, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpud.scheduler.model import Job, State


def violations(state: State) -> list[str]:
    """Return what is wrong with a state, one line each; empty when all is well."""
    if list(state.jobs) != sorted(state.jobs):
        return [f"the jobs are not in the order of their numbers: {list(state.jobs)}"]
    lines = [line for job in state.jobs.values() for line in _of_job(state, job)]
    if [(number, state.jobs[number].revision) for number in state.by_revision] != sorted(
        ((job.id, job.revision) for job in state.jobs.values()), key=lambda each: each[1]
    ):
        lines.append(f"by revision {list(state.by_revision)}, but jobs are {list(state.jobs)}")
    if state.draining - state.cordoned:
        lines.append(f"draining {state.draining}, but cordoned are {state.cordoned}")
    return [*lines, *_of_waiting(state), *_of_leases(state), *_of_outbox(state)]


def _of_job(state: State, job: Job) -> Iterator[str]:
    recount = Counts()
    for task in job.tasks:
        recount.add(task.letter, 1)
    if recount != job.counts:
        yield f"job {job.id}: counts {job.counts}, but its tasks give {recount}"
    if job.settled and job.counts.open:
        yield f"job {job.id} has settled with {job.counts.open} open tasks"
    if job.state.ended and job.archive_open:
        yield f"job {job.id} has ended with {job.archive_open} entries for the archive in the outbox"
    if job.state.ended != (job.id in state.ended):
        yield f"job {job.id} is {job.state.name}, but the list of ended jobs says otherwise"
    if not job.settled and not job.counts.open and not job.archive_open:
        yield f"job {job.id} stands still: nothing open, nothing settled"
    if job.revision > state.revision or job.id >= state.next_job:
        yield f"job {job.id}: revision {job.revision} or identifier is ahead of the state's"


def _of_waiting(state: State) -> Iterator[str]:
    listed = Counter(Key(job, task) for _, job, task in state.waiting)
    listed.update(state.delayed.keys())
    expected = Counter(
        Key(job.id, number)
        for job in state.jobs.values()
        for number, task in enumerate(job.tasks)
        if task.state in {TaskState.QUEUED, TaskState.LOST}
    )
    if listed != expected:
        yield f"waiting: {listed - expected} too much, {expected - listed} missing"
    for line in state.waiting.lines.values():
        for job, task in line.plans:
            if task != len(state.jobs[job].tasks) - 1 or job in line.jobs:
                yield f"waiting: plan {task} of job {job} is not alone, or not its last task"
        numbers = [job for job, _ in line]
        places = [line.place(state.jobs[job].priority, job) for job in numbers]
        if places != list(range(len(line))) or line.some(len(line), 1) != numbers:
            yield f"waiting: places {places} of {numbers}"
        if line.order != sorted(line.order) or {job for _, job in line.order} != set(line.jobs):
            yield f"waiting: order {line.order} of {set(line.jobs)}"


def _of_leases(state: State) -> Iterator[str]:
    running = {
        Key(job.id, number): (job, task)
        for job in state.jobs.values()
        for number, task in enumerate(job.tasks)
        if task.state is TaskState.RUNNING
    }
    if running.keys() != state.leased:
        yield f"leases {state.leased}, but running are {set(running)}"
    if running.keys() != state.presence.deadlines.keys():
        yield f"deadlines {set(state.presence.deadlines)}, but running are {set(running)}"
    if Counter(job.user for job, _ in running.values()) != Counter(state.running):
        yield f"running slots {state.running} do not fit {set(running)}"
    if Counter(job.project for job, _ in running.values()) != Counter(state.running_in):
        yield f"running slots {state.running_in} do not fit {set(running)}"
    tokens = Counter(task.token for _, task in running.values())
    if "" in tokens or any(number > 1 for number in tokens.values()):
        yield f"fencing tokens are not unique: {tokens}"


def _of_outbox(state: State) -> Iterator[str]:
    total = Counter(entry.ref.job for entry in state.outbox.values())
    archive = Counter(entry.ref.job for entry in state.outbox.values() if entry.errand.for_archive)
    for job in state.jobs.values():
        if (job.outbox_open, job.archive_open) != (total[job.id], archive[job.id]):
            yield f"job {job.id}: outbox {job.outbox_open}, archive {job.archive_open}, found {total[job.id]}"
    if any(number >= state.next_entry for number in state.outbox):
        yield "the outbox has a number that was not given yet"
