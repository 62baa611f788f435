"""What the scheduler is asked to do: one frozen value a wish, one sentence each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from dpud.scheduler.model import Failure, FailureCategory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dpud.scheduler.catalogue import Sequence
    from dpud.scheduler.model import Allowance, Job, Limits, Party, Ref, TaskPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Take this job."""

    request_id: str
    #: Digest of everything that was asked: the same request_id must come with the same.
    digest: str
    user: str
    project: str
    sequence: Sequence
    #: By long name, to be checked; and the same as they travel.
    given: Mapping[str, object]
    options: bytes
    code_digest: str
    limits: Limits
    priority: int = 0
    commit: bool = False
    #: Behind those of a deposit, if there is one.
    tasks: tuple[TaskPlan, ...] = ()
    deposit: str = ""
    #: For a person.
    code_description: str = ""

    @property
    def instrument(self) -> str:
        """The instrument that the options name; '' where they name none."""
        named = self.given.get("instrument", "")
        return named if isinstance(named, str) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """Keep these tasks of a long list; what they belong to is said when all are here."""

    #: Of the list: never the same twice.
    key: str
    #: How many of its tasks came before.
    before: int
    tasks: tuple[TaskPlan, ...]


@dataclass(frozen=True, slots=True)
class Abandon:
    """Keep this list of tasks no longer."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """End this job."""

    job: int
    by: str
    project: str
    reason: str = ""
    #: May cancel other people's.
    operator: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """Do again what an ended job did, as a new one."""

    request_id: str
    #: Of what was asked: the same request_id must come with the same.
    digest: str
    user: str
    project: str
    #: From the memory or the history; its own tasks are not looked at.
    job: Job
    #: From this one of its stages on.
    stage: int = 0
    #: Of that stage, behind those of a deposit, if there is one; without any, its plan is made anew.
    tasks: tuple[TaskPlan, ...] = ()
    deposit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cordon:
    """Give a worker no more tasks, or some again."""

    worker: str
    cordoned: bool
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Give a worker no more tasks, and have it hand back those that it has."""

    worker: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAllowance:
    """Let a user or a project have so much."""

    party: Party
    allowance: Allowance
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """Know this worker, by a new session."""

    session: str
    worker: str
    slots: int
    memory_mib: int
    catalogue: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Take the end of an attempt; without a failure, it ended normally."""

    ref: Ref
    token: str
    failure: Failure | None = None
    run_s: float = 0.0
    log_lines: int = -1
    products: int = 0
    #: Nothing else ran in its process.
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Take the tasks that a plan task gave its stage."""

    report: Report
    #: Behind those of a deposit, if there is one.
    tasks: tuple[TaskPlan, ...]
    deposit: str = ""

    def refused(self, why: str) -> Report:
        """Return the end of its task when the tasks are not taken."""
        return replace(self.report, failure=Failure(FailureCategory.RECIPE, why))


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew:
    """Know that a session lives, and holds these leases, by their tokens."""

    session: str
    held: Mapping[Ref, str] = field(default_factory=dict)
    #: It hands back what it holds, as it was told.
    draining: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Give a session more tasks."""

    session: str
    room: int
    memory_mib: int
    #: Makes the fencing tokens of this claim's leases; never the same twice.
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkCall:
    """Do all that a worker says at once: what ended, what it holds, what it can take."""

    reports: tuple[Report, ...]
    plans: tuple[Plan, ...]
    renewal: Renew
    room: int
    memory_mib: int
    #: For so long it may be told nothing.
    wait_s: float
    #: It hands back what it holds already.
    draining: bool


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Drop entries of the outbox: others have been told."""

    entries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pass:
    """Give no job an identifier up to this one."""

    highest: int


@dataclass(frozen=True, slots=True)
class Tick:
    """See what lapsed and what is due."""


@dataclass(frozen=True, slots=True)
class Retire:
    """Let ended jobs beyond so many, oldest first, leave the memory."""

    limit: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Let no lease lapse before one full term from now: the scheduler itself was away."""


Command: TypeAlias = (
    Submit
    | Repeat
    | Deposit
    | Abandon
    | Cancel
    | Cordon
    | Drain
    | SetAllowance
    | Register
    | Report
    | Plan
    | Renew
    | Claim
    | Acknowledge
    | Pass
    | Tick
    | Retire
    | Resume
)
