"""A whole state as texts and back: what a restart begins from, instead of all that ever happened."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from dpud.scheduler import codec
from dpud.scheduler.experience import Figures, Kind  # noqa: TC001 (the codec reads the annotations)
from dpud.scheduler.model import (
    LEASE_TERM_S,
    Allowance,
    Deposit,
    Entry,
    Job,
    Key,
    Party,
    Request,
    State,
    TaskState,
)
from dpud.scheduler.presence import Deadline
from dpud.scheduler.share import Usage  # noqa: TC001 (the codec reads the annotations)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request_id was used for, and whose it was."""

    project: str
    user: str
    request_id: str
    request: Request


@dataclass(frozen=True, slots=True)
class _Used:
    """What a user has used."""

    user: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class _Delayed:
    """A task that waits until a time."""

    key: Key
    until: float


@dataclass(frozen=True, slots=True)
class _Queue:
    """Waiting tasks of one job, in the order of their turn."""

    job: int
    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Allowed:
    """What somebody may have."""

    party: Party
    allowance: Allowance


@dataclass(frozen=True, slots=True)
class _Learnt:
    """What is known of tasks of one kind."""

    kind: Kind
    figures: Figures


@dataclass(frozen=True, slots=True)
class _Kept:
    """Tasks of a list that is still arriving."""

    key: str
    deposit: Deposit


@dataclass(frozen=True, slots=True)
class _Head:
    """All but the jobs; a field is only ever added, at the end and with a default."""

    next_job: int
    revision: int
    grants: int
    next_entry: int
    requests: tuple[_Asked, ...]
    usage: tuple[_Used, ...]
    delayed: tuple[_Delayed, ...]
    waiting: tuple[_Queue, ...]
    outbox: tuple[Entry, ...]
    ended: tuple[int, ...]
    allowances: tuple[_Allowed, ...] = ()
    cordoned: tuple[str, ...] = ()
    experience: tuple[_Learnt, ...] = ()
    deposits: tuple[_Kept, ...] = ()
    draining: tuple[str, ...] = ()


def dump_state(state: State) -> Iterator[bytes]:
    """Yield the parts of a state: a head, then one a job."""
    queues = groupby(state.waiting, key=lambda waits: waits[1])
    yield codec.dump(
        _Head(
            next_job=state.next_job,
            revision=state.revision,
            grants=state.grants,
            next_entry=state.next_entry,
            requests=tuple(_Asked(*key, request) for key, request in state.requests.items()),
            usage=tuple(_Used(user, usage) for user, usage in state.usage.items()),
            delayed=tuple(_Delayed(key, until) for key, until in state.delayed.items()),
            waiting=tuple(_Queue(job, tuple(task for _, _, task in tasks)) for job, tasks in queues),
            outbox=tuple(state.outbox.values()),
            ended=tuple(state.ended),
            allowances=tuple(_Allowed(party, allowance) for party, allowance in state.allowances.items()),
            cordoned=tuple(sorted(state.cordoned)),
            experience=tuple(_Learnt(kind, figures) for kind, figures in state.experience.items()),
            deposits=tuple(_Kept(key, deposit) for key, deposit in state.deposits.items()),
            draining=tuple(sorted(state.draining)),
        )
    )
    for job in state.jobs.values():
        yield codec.dump(job)


def load_state(parts: Iterable[bytes]) -> State:
    """Return the state that `dump_state` yielded; an empty one for no parts."""
    bodies = iter(parts)
    if (first := next(bodies, None)) is None:
        return State()
    head = codec.load(_Head, first)
    jobs = {job.id: job for job in (codec.load(Job, body) for body in bodies)}
    state = State(
        jobs=jobs,
        by_revision=OrderedDict.fromkeys(sorted(jobs, key=lambda number: jobs[number].revision)),
        next_job=head.next_job,
        revision=head.revision,
        requests={(asked.project, asked.user, asked.request_id): asked.request for asked in head.requests},
        delayed={delayed.key: delayed.until for delayed in head.delayed},
        usage={used.user: used.usage for used in head.usage},
        grants=head.grants,
        outbox={entry.number: entry for entry in head.outbox},
        next_entry=head.next_entry,
        ended=dict.fromkeys(head.ended),
        allowances={allowed.party: allowed.allowance for allowed in head.allowances},
        cordoned=set(head.cordoned),
        experience={learnt.kind: learnt.figures for learnt in head.experience},
        deposits={kept.key: kept.deposit for kept in head.deposits},
        draining=set(head.draining),
    )
    _queue(state, head.waiting)
    _count_leases(state)
    return state


def _queue(state: State, queues: Iterable[_Queue]) -> None:
    for queue in queues:
        job = state.jobs[queue.job]
        for plan in (True, False):
            if tasks := [task for task in queue.tasks if job.tasks[task].plan is plan]:
                run = range(tasks[0], tasks[-1] + 1)
                numbers = run if list(run) == tasks else tasks
                state.waiting.add(job.user, job.priority, job.id, numbers, plan=plan)


def _count_leases(state: State) -> None:
    running: Counter[str] = Counter()
    running_in: Counter[str] = Counter()
    for job in state.jobs.values():
        if not job.state.ended:
            for number, task in enumerate(job.tasks):
                if task.state is TaskState.RUNNING:
                    state.leased.add(Key(job.id, number))
                    state.presence.deadlines[Key(job.id, number)] = Deadline(task.started + LEASE_TERM_S)
                    running[job.user] += 1
                    running_in[job.project] += 1
    state.running, state.running_in = dict(running), dict(running_in)
