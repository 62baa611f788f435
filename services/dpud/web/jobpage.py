"""One job, as its page shows it."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any

from dpu.report import ENDED
from dpu.values import from_map
from dpu_api.v1 import scheduler_pb2 as pb
from dpu_api.v1.job_pb2 import Task, TaskState
from dpud.web.calls import DEADLINE_S, answered
from dpud.web.queue import Row, duration, row

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.responses import Response

    from dpu_api.v1.job_pb2 import Failure, Job
    from dpud.web.visit import Route, Visit
    from dpud.web.visitors import Services

#: So many tasks are shown; of more, those that did not end normally come first.
MOST_TASKS = 500


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task, as a row."""

    number: int
    recipe: str
    label: str
    state: str
    attempt: str
    worker: str
    started: str
    ran: str


@dataclass(frozen=True, slots=True)
class JobPage:
    """What the page of a job shows."""

    row: Row
    options: Mapping[str, object]
    code: str
    failure: Failure
    cancelled: str
    waits: list[str]
    tasks: list[TaskRow]
    more: int
    can_retry: bool


async def job_page(services: Services, number: int) -> JobPage:
    """Return the page of a job. Raises grpc.RpcError."""
    scheduler: Any = services.scheduler  # the stub's types know the synchronous channel
    job: Job = (await scheduler.GetJob(pb.GetJobRequest(job_id=number), timeout=DEADLINE_S)).job
    ended = job.state in ENDED
    listed, waits = await asyncio.gather(_tasks(scheduler, number), _waits(scheduler, number, ended=ended))
    shown = sorted(listed, key=lambda task: (task.state == TaskState.TASK_STATE_SUCCEEDED, task.ref.task))
    by = job.cancellation
    return JobPage(
        row=row(job),
        options=from_map(job.options),
        code=job.code_digest,
        failure=job.failure,
        cancelled=f"by {by.by}" + (f": {by.reason}" if by.reason else "") if by.by else "",
        waits=waits,
        tasks=[_task_row(task) for task in (listed if len(listed) <= MOST_TASKS else shown[:MOST_TASKS])],
        more=max(0, len(listed) - MOST_TASKS),
        can_retry=ended,
    )


async def _tasks(scheduler: Any, number: int) -> list[Task]:
    """Return all tasks of a job."""
    found: list[Task] = []
    token = ""
    while True:
        asked = pb.ListTasksRequest(job_id=number, page_token=token)
        answer = await scheduler.ListTasks(asked, timeout=DEADLINE_S)
        found += answer.tasks
        token = answer.next_page_token
        if not token:
            return found


async def _waits(scheduler: Any, number: int, *, ended: bool) -> list[str]:
    """Return what a job waits for."""
    if ended:
        return []
    told = await scheduler.ExplainJob(pb.ExplainJobRequest(job_id=number), timeout=DEADLINE_S)
    return list(_lines(told))


def _lines(told: pb.ExplainJobResponse) -> Iterable[str]:
    for wait in told.waits:
        yield (f"{wait.tasks} task{'' if wait.tasks == 1 else 's'}: " if wait.tasks else "") + wait.message
    if told.position:
        yield f"Its place in the queue is {told.position}"


def _task_row(task: Task) -> TaskRow:
    started = task.started.ToDatetime(tzinfo=UTC) if task.HasField("started") else None
    ended = task.ended.ToDatetime(tzinfo=UTC) if task.HasField("ended") else None
    return TaskRow(
        number=task.ref.task,
        recipe=f"plan of {task.recipe}" if task.plan else task.recipe,
        label="" if task.plan else task.label,
        state=TaskState.Name(task.state).removeprefix("TASK_STATE_"),
        attempt=str(task.ref.attempt or ""),
        worker=task.worker,
        started=f"{started:%H:%M:%S}" if started else "",
        ran=duration((ended - started).total_seconds()) if started and ended else "",
    )


async def job(visit: Visit) -> Response:
    """Show one job: its tasks, what it waits for, what went wrong first."""
    page = await job_page(visit.services, visit.job)
    return visit.show("job.html", **{key: getattr(page, key) for key in page.__slots__})


async def cancel(visit: Visit) -> Response:
    """Cancel a job and go back to it."""
    await visit.form()
    wish = pb.CancelJobsRequest(job_ids=[visit.job], reason="on the queue page")
    await answered(visit.services.scheduler.CancelJobs(wish, timeout=DEADLINE_S))
    return visit.lead(f"/jobs/{visit.job}")


async def retry(visit: Visit) -> Response:
    """Do again what a job did, and go to the new one."""
    form = await visit.form()
    wish = pb.RetryJobRequest(request_id=str(uuid.uuid4()), job_id=visit.job, only_failed="failed" in form)
    answer = await answered(visit.services.scheduler.RetryJob(wish, timeout=DEADLINE_S))
    return visit.lead(f"/jobs/{answer.job.id}")


ROUTES: tuple[Route, ...] = (
    ("GET", "/jobs/{job:int}", job),
    ("POST", "/jobs/{job:int}/cancel", cancel),
    ("POST", "/jobs/{job:int}/retry", retry),
)
