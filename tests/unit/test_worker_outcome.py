import signal

import pytest

from dpu_api.v1.job_pb2 import Failure, FailureCategory
from dpud.worker.outcome import Stop, died, said, stopped
from dpud.worker.sandbox import Allowance

ALLOWED = Allowance(time_s=60, memory_mib=512, scratch_mib=100)


def test_a_normal_end_is_no_failure() -> None:
    assert said({"status": "ended"}, ALLOWED) is None


@pytest.mark.parametrize(
    ("status", "category", "message"),
    [
        ("refused", FailureCategory.FAILURE_CATEGORY_RECIPE, "why"),
        ("raised", FailureCategory.FAILURE_CATEGORY_RECIPE, "why"),
        ("unloadable", FailureCategory.FAILURE_CATEGORY_CODE, "why"),
        (
            "memory",
            FailureCategory.FAILURE_CATEGORY_OUT_OF_MEMORY,
            "it needs more than its limit of 512 MiB of memory (dpu_mem): why",
        ),
        ("nonsense", FailureCategory.FAILURE_CATEGORY_CRASH, "why"),
    ],
)
def test_what_a_process_says_has_its_category(status: str, category: FailureCategory.ValueType, message: str) -> None:
    end = {"status": status, "message": "why", "detail": "trace"}
    assert said(end, ALLOWED) == Failure(category=category, message=message, detail="trace")


@pytest.mark.parametrize(
    ("why", "category", "message"),
    [
        (Stop.CANCELLED, FailureCategory.FAILURE_CATEGORY_CANCELLED, "cancelled while it ran"),
        (Stop.DRAINED, FailureCategory.FAILURE_CATEGORY_WORKER_DRAINED, "the worker stops: it hands the task back"),
        (
            Stop.TIME,
            FailureCategory.FAILURE_CATEGORY_TIME_LIMIT,
            "it ran longer than its limit of 60 s: raise dpu_time",
        ),
        (
            Stop.MEMORY,
            FailureCategory.FAILURE_CATEGORY_OUT_OF_MEMORY,
            "it needs more than its limit of 512 MiB of memory (dpu_mem)",
        ),
        (
            Stop.SCRATCH,
            FailureCategory.FAILURE_CATEGORY_RECIPE,
            "it wrote more than 100 MiB into its scratch folder",
        ),
        (Stop.INFRASTRUCTURE, FailureCategory.FAILURE_CATEGORY_INFRASTRUCTURE, "the archive is away"),
    ],
)
def test_what_the_worker_stopped_has_its_category(why: Stop, category: FailureCategory.ValueType, message: str) -> None:
    assert stopped(why, ALLOWED, "the archive is away") == Failure(category=category, message=message)


CRASH = FailureCategory.FAILURE_CATEGORY_CRASH
MEMORY = FailureCategory.FAILURE_CATEGORY_OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("status", "peak_mib", "kernel_killed", "category", "message"),
    [
        (3 << 8, 0, False, CRASH, "its process ended with exit code 3"),
        (0, 0, False, CRASH, "its process ended with exit code 0"),
        (signal.SIGSEGV, 0, False, CRASH, "its process was ended by signal 11 (SIGSEGV)"),
        (signal.SIGKILL, 100, False, CRASH, "its process was ended by signal 9 (SIGKILL)"),
        (signal.SIGKILL, 500, False, MEMORY, "it needs more than its limit of 512 MiB of memory (dpu_mem)"),
        (signal.SIGKILL, 0, True, MEMORY, "it needs more than its limit of 512 MiB of memory (dpu_mem)"),
        (40, 0, False, CRASH, "its process was ended by signal 40 (a real-time signal)"),
        (-1, 0, False, CRASH, "its process was lost: nobody knows how it ended"),
    ],
)
def test_how_a_process_died_has_its_category(
    *, status: int, peak_mib: float, kernel_killed: bool, category: FailureCategory.ValueType, message: str
) -> None:
    failure = died(status, ALLOWED, peak_mib=peak_mib, kernel_killed=kernel_killed, tail="last line")
    assert (failure.category, failure.detail) == (category, "last line")
    assert failure.message.startswith(message)
