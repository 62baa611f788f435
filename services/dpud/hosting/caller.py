"""Who calls, and what they may: identities by token, roles, one table of permissions."""

from __future__ import annotations

import hashlib
import tomllib
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from dpu.errors import NotAllowed, NotLoggedIn
from dpud.hosting.settings import BadSetting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path


class Role(StrEnum):
    """What somebody is to the DPU."""

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


def digest_of(token: str) -> str:
    """Return what is stored of a token: its SHA-256, hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def token_row(secret: str, user: str, projects: Sequence[str], roles: Sequence[str]) -> str:
    """Return the row of a tokens file that knows `secret`."""
    quoted = ", ".join(f'"{project}"' for project in projects)
    kinds = ", ".join(f'"{role}"' for role in roles)
    return f'[[token]]\nsha256 = "{digest_of(secret)}"\nuser = "{user}"\nprojects = [{quoted}]\nroles = [{kinds}]\n'


class Tokens:
    """Identities by the digest of their token."""

    def __init__(self, identities: Mapping[str, Identity]) -> None:
        self._identities = dict(identities)

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """Read a TOML file of [[token]] tables: sha256, user, projects, roles. Raises BadSetting."""
        try:
            rows = tomllib.loads(path.read_text())["token"]
            return cls(
                {
                    row["sha256"]: Identity(
                        user=row["user"],
                        projects=frozenset(row["projects"]),
                        roles=frozenset(map(Role, row["roles"])),
                    )
                    for row in rows
                }
            )
        except OSError as error:
            raise BadSetting(f"DPU_TOKENS_FILE={str(path)!r}: cannot be read: {error.strerror}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise BadSetting(
                f"DPU_TOKENS_FILE={str(path)!r}: must be [[token]] tables of sha256, user, projects, roles: {error}"
            ) from error

    def identify(self, authorization: str) -> Identity:
        """Return whom an authorization header stands for. Raises NotLoggedIn."""
        scheme, _, token = authorization.partition(" ")
        if scheme != "Bearer" or not token:
            raise NotLoggedIn("no token came with the call: log in first (docs/how-to/log-in.md)")
        # Looked up by digest: no comparison of secrets whose time could tell anything.
        identity = self._identities.get(digest_of(token))
        if identity is None:
            raise NotLoggedIn("the token is unknown to this DPU: log in again (docs/how-to/log-in.md)")
        return identity


_PEOPLE = frozenset({Role.USER, Role.OPERATOR})
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
            "GetDpu": _PEOPLE | _WORKERS | _SERVICES,
            "GetCatalogue": _PEOPLE,
            "SubmitJob": _PEOPLE,
            "GetJob": _PEOPLE,
            "ListJobs": _PEOPLE,
            "ListTasks": _PEOPLE,
            "CancelJob": _PEOPLE,
            "WaitJob": _PEOPLE,
            "CancelJobs": _PEOPLE,
            "RetryJob": _PEOPLE,
            "ExplainJob": _PEOPLE,
            "WatchJobs": _PEOPLE,
            "ListWorkers": _OPERATORS,
            "CordonWorker": _OPERATORS,
            "DrainWorker": _OPERATORS,
            "SetAllowance": _OPERATORS,
        },
    ),
    **_permit("DispatchService", dict.fromkeys(("RegisterWorker", "Work", "ReportPlan"), _WORKERS)),
    **_permit(
        "LogService",
        {
            "Append": _WORKERS,
            "Read": _PEOPLE,
            "CloseTask": _SERVICES,
            "CloseTasks": _SERVICES,
            "CloseJob": _SERVICES,
            "DeleteJobLogs": _PEOPLE,
        },
    ),
    **_permit(
        "CodeService",
        {
            "FindMissing": _PEOPLE,
            "UploadBlobs": _PEOPLE,
            "PutTree": _PEOPLE,
            "GetTree": _PEOPLE | _WORKERS,
            "DownloadBlobs": _PEOPLE | _WORKERS,
        },
    ),
    **_permit(
        "ArchiveService",
        {
            "ListInstruments": _PEOPLE | _WORKERS,
            "Ingest": _PEOPLE,
            "Preview": _PEOPLE,
            "ListFrames": _PEOPLE | _WORKERS,
            "FindCalibration": _PEOPLE | _WORKERS,
            "ListCalibrations": _PEOPLE,
            "TraceLineage": _PEOPLE,
            "UpdateValidity": _PEOPLE,
            "SetPrivileges": _PEOPLE,
            "DeleteProduct": _PEOPLE,
            "FetchFrame": _PEOPLE | _WORKERS,
            "StageProduct": _WORKERS,
            "Publish": _SERVICES,
            "Discard": _SERVICES,
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


def identify(tokens: Tokens, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
    """Return who sent a call with this metadata. Raises NotLoggedIn or NotAllowed."""
    values = {key: value for key, value in metadata if isinstance(value, str)}
    identity = tokens.identify(values.get("authorization", ""))
    return identity.caller(values.get("dpu-project", "") or "default")
