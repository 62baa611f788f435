"""What the scheduler knows: jobs, their tasks, who waits, who holds what, and what is still to be told to others.

Values are frozen. The records of the state (Job, Task, State and its parts) are changed by `machine.apply` alone.
Times are seconds since 1970, UTC.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple

from dpud.scheduler.catalogue import Stage  # noqa: TC001 (the codec reads the annotations)
from dpud.scheduler.counts import Counts
from dpud.scheduler.experience import Figures, Kind
from dpud.scheduler.presence import Presence
from dpud.scheduler.share import Usage  # noqa: TC001 (the same)
from dpud.scheduler.waiting import Waiting

#: How long a lease lasts without a renewal, and how often a worker renews it.
LEASE_TERM_S = 30.0
HEARTBEAT_S = 10.0
#: How long a request_id is remembered.
REQUEST_TERM_S = 86_400.0
#: What a plan task may use.
PLAN_TIME_S = 60.0
PLAN_MEMORY_MIB = 256


class JobState(IntEnum):
    """Where a job stands; numbered as dpu_api.v1.JobState."""

    QUEUED = 1
    RUNNING = 2
    CANCELLING = 3
    FINISHED = 4
    FAILED = 5
    CANCELLED = 6

    @property
    def ended(self) -> bool:
        """Whether it is one of the three ends."""
        return self >= JobState.FINISHED


class TaskState(IntEnum):
    """Where a task stands; numbered as dpu_api.v1.TaskState."""

    QUEUED = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    ABORTED = 5
    CANCELLED = 6
    LOST = 7


class FailureCategory(IntEnum):
    """Why an attempt did not end normally; numbered as dpu_api.v1.FailureCategory."""

    RECIPE = 1
    CODE = 2
    OUT_OF_MEMORY = 3
    TIME_LIMIT = 4
    CRASH = 5
    WORKER_LOST = 6
    WORKER_DRAINED = 7
    INFRASTRUCTURE = 8
    CANCELLED = 9


class Key(NamedTuple):
    """A task, everywhere in the scheduler."""

    job: int
    task: int


class Ref(NamedTuple):
    """One attempt at one task."""

    job: int
    task: int
    attempt: int

    @property
    def key(self) -> Key:
        """Return the task."""
        return Key(self.job, self.task)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt did not end normally, for a person."""

    category: FailureCategory
    message: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a user limited; zero: the sequence's own figure."""

    time_s: float = 0.0
    memory_mib: int = 0


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Who wished that a job ends, why, and when."""

    by: str
    reason: str
    at: float


class TaskPlan(NamedTuple):
    """One task as a plan describes it; `spec` is opaque here. There are very many: a tuple is made fastest."""

    label: str
    spec: bytes = b""
    seconds: float = 0.0
    memory_mib: int = 0

    @property
    def size(self) -> int:
        """How many bytes are kept of it."""
        return len(self.label) + len(self.spec)


_LETTERS = {
    TaskState.QUEUED: "submitted",
    TaskState.RUNNING: "submitted",
    TaskState.SUCCEEDED: "normal",
    TaskState.FAILED: "error",
    TaskState.ABORTED: "aborted",
    TaskState.CANCELLED: "aborted",
    TaskState.LOST: "unknown",
}


@dataclass(slots=True)
class Task:
    """One task, with its newest attempt."""

    stage: int
    plan: bool
    label: str
    spec: bytes
    seconds: float
    memory_mib: int
    state: TaskState = TaskState.QUEUED
    #: 0 before the first lease.
    attempt: int = 0
    #: Of the newest attempt; emptied when its lease lapses, so that nothing it says later counts.
    token: str = ""
    worker: str = ""
    #: Slot-seconds charged to the user at the lease.
    charge: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    #: What the two budgets have been charged.
    crashes: int = 0
    losses: int = 0
    failure: Failure | None = None

    @property
    def is_suspect(self) -> bool:
        """Whether its last attempt crashed: it runs alone now."""
        return self.failure is not None and self.failure.category is FailureCategory.CRASH

    @property
    def letter(self) -> str:
        """Return which of N/E/A/S/U counts it; empty for a plan that ended well."""
        if self.plan and self.state is TaskState.SUCCEEDED:
            return ""
        return _LETTERS[self.state]


@dataclass(slots=True)
class Job:
    """One job and all its tasks, by number."""

    id: int
    user: str
    project: str
    sequence: str
    stages: tuple[Stage, ...]
    #: A serialised ValueMap, opaque here.
    options: bytes
    code_digest: str
    limits: Limits
    priority: int
    commit: bool
    submitted: float
    estimate_s: float
    state: JobState = JobState.QUEUED
    counts: Counts = field(default_factory=Counts)
    tasks: list[Task] = field(default_factory=list)
    #: The stage that runs, and how its tasks ended so far.
    stage: int = 0
    succeeded: int = 0
    failed: int = 0
    started: float = 0.0
    ended: float = 0.0
    revision: int = 0
    cancellation: Cancellation | None = None
    failure: Failure | None = None
    #: The end that waits for its outbox; None while something can still run.
    outcome: JobState | None = None
    #: Entries of the outbox: those for the archive, and all.
    archive_open: int = 0
    outbox_open: int = 0
    #: As the options name it; '' where they do not.
    instrument: str = ""
    #: Bytes of its options and tasks.
    size: int = 0
    #: Time of slots that its tasks used, in all attempts.
    busy_s: float = 0.0
    #: What who submitted it called its code; '' where they did not say.
    code_description: str = ""

    def kind(self, stage: int) -> Kind:
        """Return what the tasks of a stage are like."""
        return Kind(self.project, self.stages[stage].recipe, self.instrument)

    @property
    def settled(self) -> bool:
        """Whether nothing of it can run any more."""
        return self.outcome is not None


class Errand(StrEnum):
    """What the outbox tells others."""

    PUBLISH = "publish"
    DISCARD = "discard"
    CLOSE_TASK = "close_task"
    CLOSE_JOB = "close_job"

    @property
    def for_archive(self) -> bool:
        """Whether the archive is told, and not the logs."""
        return self is Errand.PUBLISH or self is Errand.DISCARD


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that another service is told until it acknowledges it."""

    number: int
    errand: Errand
    #: For CLOSE_JOB: task and attempt are 0.
    ref: Ref
    project: str
    #: Of PUBLISH: whether the products outlive the job.
    commit: bool = False
    #: Of CLOSE_TASK a TaskState, of CLOSE_JOB a JobState.
    ending: int = 0
    #: Of CLOSE_TASK: how many log lines were written; -1: nobody knows.
    lines: int = -1


@dataclass(frozen=True, slots=True)
class Request:
    """What a request_id was used for."""

    job: int
    digest: str
    at: float


class Party(NamedTuple):
    """Somebody who may have so much: kind is 'user' or 'project'."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much a user or a project may have; zero: any number."""

    #: Of a user: twice the weight, twice the share.
    weight: float = 1.0
    running: int = 0
    #: Open tasks when a job is submitted.
    queued: int = 0
    #: Bytes of the options and tasks of open jobs when a job is submitted.
    queued_bytes: int = 0


@dataclass(slots=True)
class Deposit:
    """Tasks of a long list that is still arriving."""

    #: When the newest of them came.
    at: float
    tasks: list[Task] = field(default_factory=list)
    #: Bytes that are kept of them.
    size: int = 0


@dataclass(slots=True)
class State:
    """Everything; two states are equal when all that was journaled is."""

    jobs: dict[int, Job] = field(default_factory=dict)
    #: All of them, those that changed last behind the others.
    by_revision: OrderedDict[int, None] = field(default_factory=OrderedDict)
    next_job: int = 1
    revision: int = 0
    #: By a key of their own.
    deposits: dict[str, Deposit] = field(default_factory=dict)
    #: By project, user and request_id, oldest first.
    requests: dict[tuple[str, str, str], Request] = field(default_factory=dict)
    waiting: Waiting = field(default_factory=Waiting)
    #: Tasks that wait until a time before they are offered again.
    delayed: dict[Key, float] = field(default_factory=dict)
    #: Tasks whose lease a worker holds.
    leased: set[Key] = field(default_factory=set)
    #: Slot-seconds and running slots by user.
    usage: dict[str, Usage] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)
    #: Running slots by project.
    running_in: dict[str, int] = field(default_factory=dict)
    allowances: dict[Party, Allowance] = field(default_factory=dict)
    #: Workers that get no tasks.
    cordoned: set[str] = field(default_factory=set)
    #: Those of them that are to hand back what they have, and have not said yet that they know.
    draining: set[str] = field(default_factory=set)
    #: What tasks took, the kind met longest ago first.
    experience: dict[Kind, Figures] = field(default_factory=dict)
    #: How many leases were ever granted: every fifth goes by age.
    grants: int = 0
    outbox: dict[int, Entry] = field(default_factory=dict)
    next_entry: int = 1
    #: Ended jobs that are still in memory, oldest end first.
    ended: dict[int, None] = field(default_factory=dict)
    presence: Presence = field(default_factory=Presence, compare=False)

    def find(self, key: Key) -> Task | None:
        """Return a task; None where there is no such task in memory."""
        job = self.jobs.get(key.job)
        return job.tasks[key.task] if job and 0 <= key.task < len(job.tasks) else None

    def holds(self, ref: Ref, token: str) -> bool:
        """Return whether `token` stands for a lease of this attempt, now."""
        number, position, attempt = ref
        job = self.jobs.get(number)
        if job is None or not 0 <= position < len(job.tasks):
            return False
        task = job.tasks[position]
        return task.token == token and task.attempt == attempt and task.state is TaskState.RUNNING

    @property
    def free_number(self) -> int:
        """The identifier of the next job."""
        return max(self.next_job, self.presence.highest_job + 1)

    @property
    def open_jobs(self) -> int:
        """How many jobs have not ended."""
        return len(self.jobs) - len(self.ended)
