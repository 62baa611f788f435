"""The scheduler's brain: decide, then apply.

`decide` changes nothing and may refuse (with an error of dpu.errors); `apply` never refuses. No input, no output,
no clock: time and identifiers are arguments, and `apply` uses only times that events carry, so that replaying
the journal gives the state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dpud.scheduler import allowances, commands, deposits, dispatching, events, jobs, leases, repeats

if TYPE_CHECKING:
    from collections.abc import Callable

    from dpud.scheduler.model import State


def decide(state: State, command: commands.Command, now: float) -> list[events.Event]:
    """Return what happens when `command` is done now. Raises DpuError where it cannot be."""
    return _DECIDERS[type(command)](state, command, now)


def follow_up(state: State, job: int, now: float) -> list[events.Event]:
    """Return what follows for a job from what was applied; ask again after applying it, until nothing follows."""
    return jobs.follow_up(state, job, now)


def apply(state: State, event: events.Event) -> None:
    """Change `state` by what happened."""
    _APPLIERS[type(event)](state, event)


def execute(state: State, command: commands.Command, now: float) -> list[events.Event]:
    """Decide on `command`, apply what happens and all that follows, and return it. Raises DpuError, all unchanged."""
    happened = decide(state, command, now)
    touched: dict[int, None] = {}
    for event in happened:
        touched.update(dict.fromkeys(jobs_of(state, event)))
    for event in happened:
        apply(state, event)
    for number in touched:
        while following := follow_up(state, number, now):
            for event in following:
                apply(state, event)
            happened += following
    return happened


def jobs_of(state: State, event: events.Event) -> tuple[int, ...]:
    """Return the jobs that an event, not applied yet, is about."""
    if (number := getattr(event, "job", None)) is not None:
        return (number,)
    match event:
        case events.EntriesDelivered(entries):
            return tuple(state.outbox[entry].ref.job for entry in entries)
        case events.TasksDue(keys):
            return tuple(key.job for key in keys)
        case events.JobsRetired(retired):
            return retired
        case _:
            return ()


def _tick(state: State, _command: commands.Tick, now: float) -> list[events.Event]:
    return [
        *leases.lapses(state, now),
        *leases.due(state, now),
        *dispatching.silent(state, now),
        *deposits.left(state, now),
    ]


def _pass(state: State, command: commands.Pass, _now: float) -> list[events.Event]:
    return [events.NumbersTaken(command.highest)] if command.highest >= state.free_number else []


def _taken(state: State, event: events.NumbersTaken) -> None:
    state.presence.highest_job = event.highest


def _resume(state: State, _command: commands.Resume, now: float) -> list[events.Event]:
    return dispatching.resume(state, now)


_DECIDERS: dict[type, Callable[[State, Any, float], list[events.Event]]] = {
    commands.Submit: jobs.submit,
    commands.Repeat: repeats.repeat,
    commands.Deposit: deposits.deposit,
    commands.Abandon: deposits.abandon,
    commands.Cancel: jobs.cancel,
    commands.Cordon: allowances.cordon,
    commands.Drain: allowances.drain,
    commands.SetAllowance: allowances.set_allowance,
    commands.Register: dispatching.register,
    commands.Report: leases.report,
    commands.Plan: jobs.plan,
    commands.Renew: dispatching.renew,
    commands.Claim: dispatching.claim,
    commands.Acknowledge: jobs.acknowledge,
    commands.Pass: _pass,
    commands.Tick: _tick,
    commands.Retire: jobs.retire,
    commands.Resume: _resume,
}

_APPLIERS: dict[type, Callable[[State, Any], None]] = {
    events.JobSubmitted: jobs.submitted,
    events.TasksDeposited: deposits.deposited,
    events.DepositsDropped: deposits.dropped,
    events.TaskLeased: leases.leased,
    events.TaskEnded: leases.ended,
    events.TaskRequeued: leases.requeued,
    events.TasksDue: leases.came_due,
    events.StageBegun: jobs.begun,
    events.StagePlanned: jobs.planned,
    events.StagesAborted: jobs.aborted,
    events.JobCancelRequested: jobs.cancel_requested,
    events.JobSettled: jobs.settled,
    events.JobEnded: jobs.ended,
    events.EntriesDelivered: jobs.delivered,
    events.JobsRetired: jobs.retired,
    events.WorkerCordoned: allowances.cordoned,
    events.DrainHeard: allowances.heard,
    events.AllowanceSet: allowances.allowed,
    events.WorkerRegistered: dispatching.registered,
    events.LeasesRenewed: dispatching.renewed,
    events.LeasesExtended: dispatching.extended,
    events.NumbersTaken: _taken,
    events.SessionClosed: dispatching.closed,
}
