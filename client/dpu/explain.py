"""Why a job is where it is, and how it is done again."""

from __future__ import annotations

import uuid
from datetime import UTC
from typing import TYPE_CHECKING

from dpu import report
from dpu.errors import BadOption
from dpu_api.v1.scheduler_pb2 import ExplainJobRequest, GetJobRequest, RetryJobRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpu.link import Link
    from dpu_api.v1.job_pb2 import Job

FAILED = "failed"


def explained(link: Link, job_id: int) -> Iterator[str]:
    """Yield lines that say what a job waits for, or how it has ended. Raises NotFound."""
    job = link.ask(lambda services: services.scheduler.GetJob, GetJobRequest(job_id=job_id)).job
    yield report.status(job)
    yield from report.failure(job)
    if job.cancellation.by:
        why = f": {job.cancellation.reason}" if job.cancellation.reason else ""
        yield f"Cancelled by {job.cancellation.by}{why}"
    if job.state in report.ENDED:
        return
    told = link.ask(lambda services: services.scheduler.ExplainJob, ExplainJobRequest(job_id=job_id))
    for wait in told.waits:
        number = f"{wait.tasks} task{'' if wait.tasks == 1 else 's'}: " if wait.tasks else ""
        yield number + wait.message
    if told.position:
        yield f"Its place in the queue is {told.position}"
    if told.HasField("may_start"):
        yield f"Its next task may start at {told.may_start.ToDatetime(tzinfo=UTC).astimezone():%H:%M:%S}"


def again(link: Link, job_id: int, only: str) -> Job:
    """Return the new job that does again what an ended one did; with only='failed', what failed.

    Raises NotFound; UsageError where the job has not ended or nothing of it failed.
    """
    if only not in {"", FAILED}:
        raise BadOption(f"only={only!r}: must be {FAILED!r}, or left out to do all of it again")
    request = RetryJobRequest(request_id=str(uuid.uuid4()), job_id=job_id, only_failed=only == FAILED)
    # May be repeated: the request_id makes one job of it.
    return link.ask(lambda services: services.scheduler.RetryJob, request).job
