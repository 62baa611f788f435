"""Why an attempt did not end normally: what its process said, or how it died, as a Failure."""

from __future__ import annotations

import os
import signal
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from dpu_api.v1.job_pb2 import Failure, FailureCategory

if TYPE_CHECKING:
    from dpud.worker.sandbox import Allowance

#: How a process itself says that its task failed.
SAID = {
    "refused": FailureCategory.FAILURE_CATEGORY_RECIPE,
    "raised": FailureCategory.FAILURE_CATEGORY_RECIPE,
    "unloadable": FailureCategory.FAILURE_CATEGORY_CODE,
    "memory": FailureCategory.FAILURE_CATEGORY_OUT_OF_MEMORY,
}
#: Share of its memory at which a process that the kernel killed was the one that asked for too much.
NEARLY_ALL = 0.8


#: No task takes more seconds, or more MiB.
MOST = 1e9


class Stop(Enum):
    """Why the worker ended a task before it had ended itself."""

    CANCELLED = auto()
    DRAINED = auto()
    STALE = auto()
    TIME = auto()
    MEMORY = auto()
    SCRATCH = auto()
    INFRASTRUCTURE = auto()


def number(end: dict[str, Any], name: str) -> float:
    """Return one number of what a process said of its end. Raises ValueError, TypeError or KeyError."""
    value = float(end[name])
    if not 0.0 <= value <= MOST:
        raise ValueError(f"{name} of its end is {value}")
    return value


def said(end: dict[str, Any], allowance: Allowance) -> Failure | None:
    """Return the failure that a process reported of its task; None where it ended normally."""
    status = str(end.get("status"))
    if status == "ended":
        return None
    message = str(end.get("message", ""))
    if status == "memory":
        message = f"{out_of_memory(allowance)}: {message or 'MemoryError'}"
    category = SAID.get(status, FailureCategory.FAILURE_CATEGORY_CRASH)
    return Failure(category=category, message=message, detail=str(end.get("detail", "")))


def stopped(why: Stop, allowance: Allowance, reason: str = "") -> Failure:
    """Return the failure of a task that the worker stopped."""
    match why:
        case Stop.CANCELLED:
            return Failure(category=FailureCategory.FAILURE_CATEGORY_CANCELLED, message="cancelled while it ran")
        case Stop.TIME:
            message = f"it ran longer than its limit of {allowance.time_s:g} s: raise dpu_time"
            return Failure(category=FailureCategory.FAILURE_CATEGORY_TIME_LIMIT, message=message)
        case Stop.MEMORY:
            message = out_of_memory(allowance)
            return Failure(category=FailureCategory.FAILURE_CATEGORY_OUT_OF_MEMORY, message=message)
        case Stop.SCRATCH:
            message = f"it wrote more than {allowance.scratch_mib} MiB into its scratch folder"
            return Failure(category=FailureCategory.FAILURE_CATEGORY_RECIPE, message=message)
        case Stop.INFRASTRUCTURE:
            return infrastructure(reason)
        case _:
            message = "the worker stops: it hands the task back"
            return Failure(category=FailureCategory.FAILURE_CATEGORY_WORKER_DRAINED, message=message)


def infrastructure(reason: str) -> Failure:
    """Return the failure of a task that did not have what it needs."""
    return Failure(category=FailureCategory.FAILURE_CATEGORY_INFRASTRUCTURE, message=reason)


def died(status: int, allowance: Allowance, *, peak_mib: float, kernel_killed: bool, tail: str) -> Failure:
    """Return the failure of a task whose process ended without a word."""
    if status == -1:
        return _crash("its process was lost: nobody knows how it ended", tail)
    if os.WIFEXITED(status):
        return _crash(f"its process ended with exit code {os.WEXITSTATUS(status)}", tail)
    number = os.WTERMSIG(status)
    is_starved = kernel_killed or peak_mib > NEARLY_ALL * allowance.memory_mib
    if number == signal.SIGKILL and is_starved:
        return starved(allowance, tail)
    return _crash(f"its process was ended by signal {number} ({_signal_name(number)})", tail)


def starved(allowance: Allowance, tail: str) -> Failure:
    """Return the failure of a task of which the kernel has killed a process for want of memory."""
    category = FailureCategory.FAILURE_CATEGORY_OUT_OF_MEMORY
    return Failure(category=category, message=f"{out_of_memory(allowance)}: the kernel killed it", detail=tail)


def out_of_memory(allowance: Allowance) -> str:
    """Return what is said of a task that needs more memory than it may have."""
    return f"it needs more than its limit of {allowance.memory_mib} MiB of memory (dpu_mem)"


def _crash(message: str, tail: str) -> Failure:
    return Failure(category=FailureCategory.FAILURE_CATEGORY_CRASH, message=message, detail=tail)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "a real-time signal"
