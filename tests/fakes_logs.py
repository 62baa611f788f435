"""Batches of log lines for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpu_api.v1.job_pb2 import TaskRef
from dpu_api.v1.logs_pb2 import AppendRequest, LogBatch, ReadResponse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SECOND = 1_000_000
NOON = 1_700_000_000 * SECOND


class Clock:
    """Microseconds since 1970 that a test moves."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


def batch(
    first: int, count: int, *, job: int = 1, task: int = 0, attempt: int = 1, levels: Sequence[int] | None = None
) -> LogBatch:
    """Make `count` lines; each says which it is."""
    return LogBatch(
        ref=TaskRef(job_id=job, task=task, attempt=attempt),
        first=first,
        time_us=[NOON + number for number in range(first, first + count)],
        levels=bytes(levels if levels is not None else [2] * count),
        streams=bytes([1] * count),
        texts=[text(number, task=task, attempt=attempt) for number in range(first, first + count)],
    )


def text(number: int, *, task: int = 0, attempt: int = 1) -> str:
    return f"task {task} attempt {attempt} line {number}"


def request(
    first: int, count: int, *, project: str = "KIDS", user: str = "", label: str = "", **which: int
) -> AppendRequest:
    return AppendRequest(batch=batch(first, count, **which), project=project, user=user, label=label)


def texts(responses: Iterable[ReadResponse]) -> list[str]:
    """Return all lines of what was read."""
    return [line for response in responses for line in response.batch.texts]
