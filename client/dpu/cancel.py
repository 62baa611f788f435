"""Cancels jobs: one, several, all of a sequence, all of mine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpu import report
from dpu.errors import UsageError
from dpu.jobids import several
from dpu_api.v1.scheduler_pb2 import CancelJobsRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpu.jobids import JobIds
    from dpu.link import Link


def cancelled(link: Link, jobids: JobIds, *, sequence: str, all: bool, reason: str) -> Iterator[str]:  # noqa: A002 (the prompt's own word)
    """Cancel what is named and yield a line for each job. Raises UsageError unless it is named in one way, NotFound."""
    ways = [jobids is not None, bool(sequence), all]
    if sum(ways) != 1:
        raise UsageError("name the jobs to cancel in one way: their identifiers, sequence='Bias', or all=True")
    request = CancelJobsRequest(
        job_ids=[] if jobids is None else several(jobids), sequence=sequence, mine=all, reason=reason
    )
    jobs = link.ask(lambda services: services.scheduler.CancelJobs, request).jobs
    if not jobs:
        yield "No jobs to cancel"
    for job in jobs:
        if job.cancellation.by:
            yield f"Cancelling job {job.id}"
        else:
            yield f"Job {job.id} is not cancelled: it has ended as {report.state_of(job)}"
