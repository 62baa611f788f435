"""What happened: one frozen value a fact, in the past tense, with the time at which it was decided.

Those in JOURNALED are kept for ever: a field is only ever added, at the end and with a default, and a number is
never given twice. The others are about presence, and a replay does without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from dpud.scheduler.catalogue import Stage  # noqa: TC001 (the codec reads the annotations)
from dpud.scheduler.model import (  # noqa: TC001 (the same)
    Allowance,
    Cancellation,
    Failure,
    JobState,
    Key,
    Limits,
    Party,
    Ref,
    TaskPlan,
    TaskState,
)


@dataclass(frozen=True, slots=True)
class JobSubmitted:
    """A job was taken; without tasks, a plan of its first stage comes first."""

    job: int
    at: float
    request_id: str
    digest: str
    user: str
    project: str
    sequence: str
    stages: tuple[Stage, ...]
    options: bytes
    code_digest: str
    limits: Limits
    priority: int
    commit: bool
    estimate_s: float
    tasks: tuple[TaskPlan, ...] = ()
    instrument: str = ""
    #: Of the tasks that come before these.
    deposit: str = ""
    code_description: str = ""


@dataclass(frozen=True, slots=True)
class TaskLeased:
    """A worker was given a task, and its user was charged."""

    job: int
    task: int
    attempt: int
    at: float
    token: str
    worker: str
    charge: float


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """An attempt ended, and with it its task: the one moment of truth."""

    job: int
    task: int
    attempt: int
    at: float
    state: TaskState
    run_s: float
    log_lines: int
    products: int
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class TaskRequeued:
    """An attempt ended, and its task goes on waiting, from `due` on."""

    job: int
    task: int
    attempt: int
    at: float
    failure: Failure
    run_s: float
    log_lines: int
    products: int
    due: float
    memory_mib: int
    #: What the two budgets were charged.
    crashes: int = 0
    losses: int = 0


@dataclass(frozen=True, slots=True)
class TasksDue:
    """Tasks have waited long enough to be offered again."""

    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class StageBegun:
    """The stage before has settled, and this one is to be planned."""

    job: int
    stage: int
    at: float


@dataclass(frozen=True, slots=True)
class StagePlanned:
    """A plan task ended well and gave its stage these tasks."""

    job: int
    task: int
    attempt: int
    at: float
    run_s: float
    log_lines: int
    estimate_s: float
    tasks: tuple[TaskPlan, ...]
    #: Of the tasks that come before these.
    deposit: str = ""


@dataclass(frozen=True, slots=True)
class TasksDeposited:
    """Tasks of a long list have come: column by column, which takes a fifth of the time of one by one."""

    key: str
    at: float
    labels: tuple[str, ...]
    #: One behind the other, with their sizes.
    specs: bytes
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    memory_mib: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DepositsDropped:
    """Nobody went on with these lists."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StagesAborted:
    """What stages from this one on need was not made: each counts as one aborted task."""

    job: int
    stage: int
    at: float


@dataclass(frozen=True, slots=True)
class JobCancelRequested:
    """Somebody wished that a job ends: what waited was cancelled with it."""

    job: int
    cancellation: Cancellation


@dataclass(frozen=True, slots=True)
class JobSettled:
    """Nothing of a job can run any more; it ends so once others have been told."""

    job: int
    at: float
    state: JobState


@dataclass(frozen=True, slots=True)
class JobEnded:
    """A job reached its end."""

    job: int
    at: float


@dataclass(frozen=True, slots=True)
class EntriesDelivered:
    """Others acknowledged these entries of the outbox."""

    entries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class JobsRetired:
    """Ended jobs left the memory for the history."""

    jobs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WorkerCordoned:
    """An operator decided whether a worker gets tasks, and whether it hands back those that it has."""

    worker: str
    cordoned: bool
    by: str
    at: float
    drained: bool = False


@dataclass(frozen=True, slots=True)
class DrainHeard:
    """A worker hands back what it has, as it was told, and is to be told no more."""

    worker: str
    at: float


@dataclass(frozen=True, slots=True)
class AllowanceSet:
    """An operator decided what a user or a project may have."""

    party: Party
    allowance: Allowance
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class WorkerRegistered:
    """A worker opened a session; an older one of its name is over."""

    session: str
    at: float
    worker: str
    slots: int
    memory_mib: int
    catalogue: bytes


@dataclass(frozen=True, slots=True)
class LeasesRenewed:
    """A session was heard of, and these leases stand until then."""

    session: str
    at: float
    refs: tuple[Ref, ...]
    until: float


@dataclass(frozen=True, slots=True)
class LeasesExtended:
    """The scheduler was away: every lease stands until then, and its lapse is nobody's fault."""

    until: float


@dataclass(frozen=True, slots=True)
class NumbersTaken:
    """Others know jobs up to this one: a journal from a backup may not."""

    highest: int


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """A session was silent for too long."""

    session: str


Event: TypeAlias = (
    JobSubmitted
    | TaskLeased
    | TaskEnded
    | TaskRequeued
    | TasksDue
    | StageBegun
    | StagePlanned
    | TasksDeposited
    | DepositsDropped
    | StagesAborted
    | JobCancelRequested
    | JobSettled
    | JobEnded
    | EntriesDelivered
    | JobsRetired
    | WorkerCordoned
    | DrainHeard
    | AllowanceSet
    | WorkerRegistered
    | LeasesRenewed
    | LeasesExtended
    | NumbersTaken
    | SessionClosed
)

#: The number under which each is journaled.
JOURNALED: dict[type, int] = {
    JobSubmitted: 1,
    TaskLeased: 2,
    TaskEnded: 3,
    TaskRequeued: 4,
    TasksDue: 5,
    StageBegun: 6,
    StagePlanned: 7,
    StagesAborted: 8,
    JobCancelRequested: 9,
    JobSettled: 10,
    JobEnded: 11,
    EntriesDelivered: 12,
    JobsRetired: 13,
    WorkerCordoned: 14,
    AllowanceSet: 15,
    TasksDeposited: 16,
    DepositsDropped: 17,
    DrainHeard: 18,
}
