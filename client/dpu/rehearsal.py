"""Dry runs: the DPU plans a job that makes nothing and is not listed, and its plans tell what there would be."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Self

from dpu.errors import DpuError, UsageError
from dpu.follow import watch
from dpu.joblog import Reading
from dpu_api.v1.job_pb2 import JobState
from dpu_api.v1.scheduler_pb2 import CancelJobRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dpu.link import Link
    from dpu.screen import Stage
    from dpu.submission import Submission
    from dpu_api.v1.job_pb2 import Job

#: Plans are quick, but other jobs may have all slots.
PATIENCE_S = 600.0


class Silence:
    """A screen that shows nothing: plans are told when they are all there."""

    wants_stages = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def line(self, text: str) -> None:
        """Show nothing."""

    def update(self, job: Job, stages: list[Stage]) -> None:
        """Show nothing."""


def rehearsed(link: Link, submission: Submission, say: Callable[[str], None]) -> list[str]:
    """Return what a job would do, a line a task and one a stage. Raises UsageError where it would fail at once."""
    job = submission.submit(link, say)
    try:
        job = watch(link, job.id, Silence(), timeout=PATIENCE_S)
    except BaseException:
        # Nobody would ever hear of it.
        with suppress(DpuError):
            link.ask(lambda services: services.scheduler.CancelJob, CancelJobRequest(job_id=job.id))
        raise
    if job.state != JobState.JOB_STATE_FINISHED:
        raise UsageError(f"it would fail: {job.failure.message or 'its plan was cancelled'}")
    told = tuple(f"{stage.recipe} " for stage in submission.sequence.stages)
    return [line for line in _lines(link, job.id) if line.startswith(told) and " : " in line]


def _lines(link: Link, job_id: int) -> Iterator[str]:
    # With follow, so that lines that are on their way when the job has ended are waited for.
    for answer in Reading(link, job_id, follow=True):
        yield from answer.batch.texts
