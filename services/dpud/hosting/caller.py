"""Who calls, and what they may: identities, roles, one table of permissions."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from dpu.errors import NotAllowed

if TYPE_CHECKING:
    from collections.abc import Mapping


class Role(StrEnum):
    """What somebody is to the DPU."""

    VISITOR = "visitor"  # sees what a project's members see, and changes nothing
    USER = "user"  # submits jobs, reads results
    OPERATOR = "operator"  # a user who may act on other people's jobs and on workers
    WORKER = "worker"  # leases tasks
    SERVICE = "service"  # another service: the scheduler's outbox


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever makes a call, in one project."""

    user: str
    project: str
    roles: frozenset[Role]

    def may_see(self, project: str) -> bool:
        """Return whether things of `project` exist for this caller."""
        return self.project == project or bool(self.roles & {Role.WORKER, Role.SERVICE})


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a token stands for. A '*' in projects means any."""

    user: str
    projects: frozenset[str]
    roles: frozenset[Role]

    def caller(self, project: str) -> Caller:
        """Return the caller in `project`. Raises NotAllowed where this identity is no member."""
        if "*" not in self.projects and project not in self.projects:
            known = ", ".join(sorted(self.projects)) or "none"
            raise NotAllowed(f"{self.user} is not a member of project {project!r} (member of: {known})")
        return Caller(user=self.user, project=project, roles=self.roles)


_PEOPLE = frozenset({Role.USER, Role.OPERATOR})
_READERS = _PEOPLE | {Role.VISITOR}
_OPERATORS = frozenset({Role.OPERATOR})
_WORKERS = frozenset({Role.WORKER})
_SERVICES = frozenset({Role.SERVICE})


def _permit(service: str, methods: Mapping[str, frozenset[Role]]) -> dict[str, frozenset[Role]]:
    return {f"/dpu_api.v1.{service}/{method}": roles for method, roles in methods.items()}


#: Who may call what. A method that is not here may be called by nobody.
PERMISSIONS: Mapping[str, frozenset[Role]] = {
    **_permit(
        "SchedulerService",
        {
            "GetDpu": _READERS | _WORKERS | _SERVICES,
            "GetCatalogue": _READERS,
            "SubmitJob": _PEOPLE,
            "GetJob": _READERS,
            "ListJobs": _READERS,
            "ListTasks": _READERS,
            "CancelJob": _PEOPLE,
            "WaitJob": _READERS,
            "CancelJobs": _PEOPLE,
            "RetryJob": _PEOPLE,
            "ExplainJob": _READERS,
            "WatchJobs": _READERS,
            "GetTotals": _READERS,
            "ListWorkers": _OPERATORS,
            "CordonWorker": _OPERATORS,
            "DrainWorker": _OPERATORS,
            "SetAllowance": _OPERATORS,
        },
    ),
    **_permit("DispatchService", dict.fromkeys(("RegisterWorker", "Attend", "Work", "ReportPlan"), _WORKERS)),
    **_permit(
        "LogService",
        {
            "Append": _WORKERS,
            "Read": _READERS,
            "CloseTask": _SERVICES,
            "CloseTasks": _SERVICES,
            "CloseJob": _SERVICES,
            "DeleteJobLogs": _PEOPLE,
            "GetHighestJobWithLogs": _SERVICES,
        },
    ),
    **_permit(
        "CodeService",
        {
            "FindMissing": _PEOPLE,
            "UploadBlobs": _PEOPLE,
            "PutTree": _PEOPLE,
            "GetTree": _READERS | _WORKERS,
            "DownloadBlobs": _READERS | _WORKERS,
            "InstallVersion": _OPERATORS,
            "GetVersion": _PEOPLE,
            "ListVersions": _PEOPLE,
            "RemoveVersion": _OPERATORS,
        },
    ),
    **_permit(
        "ArchiveService",
        {
            "ListInstruments": _READERS | _WORKERS,
            "Ingest": _PEOPLE,
            "Preview": _READERS,
            "ListFrames": _READERS | _WORKERS,
            "FindCalibration": _READERS | _WORKERS,
            "ListCalibrations": _READERS,
            "TraceLineage": _READERS,
            "UpdateValidity": _PEOPLE,
            "SetPrivileges": _PEOPLE,
            "DeleteProduct": _PEOPLE,
            "DrawFrame": _READERS,
            "ReadHeader": _READERS,
            "ListTrend": _READERS,
            "FetchFrame": _READERS | _WORKERS,
            "FreezeFrames": _OPERATORS,
            "ThawFrames": _OPERATORS,
            "GetTiers": _READERS,
            "StageProduct": _WORKERS,
            "Publish": _SERVICES,
            "Discard": _SERVICES,
            "GetHighestJob": _SERVICES,
        },
    ),
}

#: Anybody may ask whether a service lives, and what it speaks.
OPEN_PREFIXES = ("/grpc.health.v1.Health/", "/grpc.reflection.")


def allow(caller: Caller, method: str) -> None:
    """Raise NotAllowed unless one of the caller's roles may call `method`."""
    if not caller.roles & PERMISSIONS.get(method, frozenset()):
        roles = ", ".join(sorted(caller.roles)) or "no role"
        raise NotAllowed(f"{method.rpartition('/')[2]} is not allowed to {caller.user} ({roles})")


_current: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """Return who makes the call that is being handled."""
    return _current.get()


def enter(caller: Caller) -> None:
    """Make `caller` the current one, for the task that handles the call."""
    _current.set(caller)
