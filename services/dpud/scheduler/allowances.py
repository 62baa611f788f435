"""What operators decide: how much users and projects may have, and which workers get nothing."""

from __future__ import annotations

import math
from operator import attrgetter
from typing import TYPE_CHECKING

from dpu.errors import Exhausted, NotFound, UsageError
from dpud.scheduler.events import AllowanceSet, Event, WorkerCordoned
from dpud.scheduler.model import Allowance, Party

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dpud.scheduler.commands import Cordon, Drain, SetAllowance
    from dpud.scheduler.events import DrainHeard
    from dpud.scheduler.model import Job, State

#: What counts for whom nothing was set.
DEFAULT = Allowance()


# Deciding


def cordon(state: State, command: Cordon, now: float) -> list[Event]:
    """Decide that a worker gets no more tasks, or some again."""
    if not command.worker:
        raise UsageError("a worker needs a name: ListWorkers has those that are there")
    if (command.worker in state.cordoned) == command.cordoned:
        return []
    return [WorkerCordoned(command.worker, command.cordoned, command.by, now)]


def drain(state: State, command: Drain, now: float) -> list[Event]:
    """Decide that a worker gets no more tasks and hands back those that it has."""
    sessions = [session for session in state.presence.sessions.values() if session.worker == command.worker]
    if not sessions:
        raise NotFound(f"there is no worker {command.worker!r}: ListWorkers has those that are there")
    if all(session.draining for session in sessions) and command.worker in state.cordoned:
        return []
    return [WorkerCordoned(command.worker, True, command.by, now, drained=True)]


def set_allowance(state: State, command: SetAllowance, now: float) -> list[Event]:
    """Decide what a user or a project may have."""
    if not command.party.name:
        raise UsageError("an allowance is a user's or a project's: name one of them")
    wanted = command.allowance
    if not (math.isfinite(wanted.weight) and wanted.weight > 0):
        raise UsageError(f"{wanted}: the weight must be above 0")
    if min(wanted.running, wanted.queued, wanted.queued_bytes) < 0:
        raise UsageError(f"{wanted}: numbers of tasks and of bytes must be from 0 up (0: any number)")
    if of(state, command.party) == wanted:
        return []
    return [AllowanceSet(command.party, wanted, command.by, now)]


def of(state: State, party: Party) -> Allowance:
    """Return what a user or a project may have."""
    return state.allowances.get(party, DEFAULT)


def check_queued(state: State, user: str, project: str, tasks: int, size: int) -> None:
    """Raise Exhausted where the user or the project would have more open tasks, or bytes of open jobs, than it may."""
    for party in (Party("user", user), Party("project", project)):
        limit = of(state, party)
        if limit.queued:
            open_tasks = sum(job.counts.open for job in _open_jobs(state, party))
            _check(party, open_tasks + max(1, tasks), limit.queued, "open tasks")
        if limit.queued_bytes:
            kept = sum(job.size for job in _open_jobs(state, party))
            _check(party, kept + size, limit.queued_bytes, "bytes of options and tasks in open jobs")


def _check(party: Party, wanted: int, limit: int, of_what: str) -> None:
    if wanted > limit:
        raise Exhausted(
            f"{party.kind} {party.name} would have {wanted} {of_what} and may have {limit}: "
            "try again when some have ended"
        )


def _open_jobs(state: State, party: Party) -> Iterator[Job]:
    """Yield the jobs of a user or a project that have not ended."""
    whose = attrgetter(party.kind)
    return (job for job in state.jobs.values() if whose(job) == party.name and job.id not in state.ended)


def parties(job: Job) -> tuple[Party, Party]:
    """Return whose allowances a job's tasks are counted in."""
    return Party("user", job.user), Party("project", job.project)


def has_room(state: State, job: Job, granted: Mapping[Party, int]) -> bool:
    """Return whether one more task of a job may run, beside those that were granted in the same claim."""
    if not state.allowances:
        return True
    user, project = parties(job)
    return _has_room(state, user, state.running.get(job.user, 0) + granted.get(user, 0)) and _has_room(
        state, project, state.running_in.get(job.project, 0) + granted.get(project, 0)
    )


def _has_room(state: State, party: Party, running: int) -> bool:
    limit = of(state, party).running
    return not limit or running < limit


# Applying


def cordoned(state: State, event: WorkerCordoned) -> None:
    """Remember whether a worker gets tasks, and whether it is still to be told to hand back what it has."""
    if event.drained:
        state.draining.add(event.worker)
        for session in state.presence.sessions.values():
            session.draining |= session.worker == event.worker
    if event.cordoned:
        state.cordoned.add(event.worker)
    else:
        state.cordoned.discard(event.worker)
        state.draining.discard(event.worker)


def heard(state: State, event: DrainHeard) -> None:
    """Remember that a worker knows: when it is started again, it is only cordoned."""
    state.draining.discard(event.worker)


def allowed(state: State, event: AllowanceSet) -> None:
    """Remember what a user or a project may have."""
    if event.allowance == DEFAULT:
        state.allowances.pop(event.party, None)
    else:
        state.allowances[event.party] = event.allowance
