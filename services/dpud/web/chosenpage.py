"""Jobs that were chosen in the queue: what can be done with them, asked once more before it is."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from dpu.errors import UsageError
from dpu_api.v1 import scheduler_pb2 as pb
from dpu_api.v1.job_pb2 import JobState
from dpud.web.calls import DEADLINE_S, answered
from dpud.web.queue import row
from dpud.web.visit import number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.responses import Response

    from dpud.web.visit import Route, Visit

#: So many jobs at a time.
MOST = 100


async def chosen(visit: Visit) -> Response:
    """Show the jobs that were chosen, those to cancel and those to do again, and ask."""
    numbers = _numbers(visit.asked.getlist("job"))
    wanted = pb.ListJobsRequest(job_ids=numbers, page_size=MOST)
    found = (await answered(visit.services.scheduler.ListJobs(wanted, timeout=DEADLINE_S))).jobs if numbers else []
    rows = [row(job) for job in found]
    return visit.show(
        "chosen.html",
        rows=rows,
        cancel=[each.id for each in rows if each.is_open],
        again=[each.id for each in rows if not each.is_open],
        failed=[job.id for job in found if job.state == JobState.JOB_STATE_FAILED],
        once=uuid.uuid4(),
    )


async def cancel(visit: Visit) -> Response:
    """Cancel the jobs, all or none, and go back to the queue."""
    form = await visit.form()
    wish = pb.CancelJobsRequest(job_ids=_numbers(form.get("jobs", "").split()), reason="on the queue page")
    await answered(visit.services.scheduler.CancelJobs(wish, timeout=DEADLINE_S))
    return visit.lead("/")


async def retry(visit: Visit) -> Response:
    """Do the jobs again, each once a form however often it is sent, and go back to the queue."""
    form = await visit.form()
    try:
        once = uuid.UUID(form.get("once", ""))
    except ValueError as error:
        raise UsageError("the form cannot be read: load the page again") from error
    wishes = [
        pb.RetryJobRequest(request_id=str(uuid.uuid5(once, str(job))), job_id=job, only_failed="failed" in form)
        for job in _numbers(form.get("jobs", "").split())
    ]
    await asyncio.gather(*(answered(visit.services.scheduler.RetryJob(wish, timeout=DEADLINE_S)) for wish in wishes))
    return visit.lead("/")


def _numbers(texts: Iterable[str]) -> list[int]:
    """Return the jobs that are named. Raises UsageError."""
    numbers = list(dict.fromkeys(map(number, texts)))
    if len(numbers) > MOST:
        raise UsageError(f"{len(numbers)} jobs are too many at once: choose at most {MOST}")
    return numbers


ROUTES: tuple[Route, ...] = (
    ("GET", "/chosen", chosen),
    ("POST", "/chosen/cancel", cancel),
    ("POST", "/chosen/retry", retry),
)
