"""Identifiers of jobs as a user gives them, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from dpu.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

JobIds: TypeAlias = "int | Iterable[int] | None"

#: A larger whole number cannot travel.
LARGEST = 2**63 - 1


def one(jobid: int) -> int:
    """Return the identifier of one job. Raises UsageError."""
    if isinstance(jobid, bool) or not isinstance(jobid, int) or abs(jobid) > LARGEST:
        raise UsageError(f"jobid={jobid!r}: must be a job identifier, a whole number as `run` returns it")
    return jobid


def only(jobids: JobIds) -> int:
    """Return the identifier of the one job that is named. Raises UsageError."""
    wanted = several(jobids)
    if len(wanted) != 1:
        raise UsageError(f"jobids={jobids!r}: one job at a time can be followed")
    return wanted[0]


def several(jobids: JobIds) -> list[int]:
    """Return the identifiers of one job or several. Raises UsageError."""
    if jobids is None or isinstance(jobids, int) or not hasattr(jobids, "__iter__"):
        jobids = [jobids]  # type: ignore[list-item]  # `one` refuses None
    return [one(jobid) for jobid in jobids]
