"""One job, as its page shows it."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any

from dpu.report import ENDED
from dpu.screen import stages_of
from dpu.values import from_map
from dpu_api.v1 import scheduler_pb2 as pb
from dpu_api.v1.job_pb2 import Task, TaskState
from dpud.web.calls import DEADLINE_S, answered
from dpud.web.chips import chip_of, chips
from dpud.web.code import description_of
from dpud.web.mosaic import mosaic
from dpud.web.products import known_instrument, products_of
from dpud.web.queue import Row, duration, row
from dpud.web.timeline import timeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.responses import Response

    from dpu.screen import Stage
    from dpu_api.v1.job_pb2 import Failure, Job
    from dpud.web.chips import Chip
    from dpud.web.mosaic import Mosaic
    from dpud.web.products import Products
    from dpud.web.timeline import Timeline
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


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """What the page of a job shows."""

    row: Row
    options: Mapping[str, object]
    code: str
    #: Its digest and what git says of it, where the code service tells.
    code_words: str
    failure: Failure
    #: Whose lines in the log say more of it.
    failed_chip: str
    cancelled: str
    waits: list[str]
    stages: list[Stage]
    chips: list[Chip]
    mosaic: Mosaic | None
    timeline: Timeline | None
    products: Products
    tasks: list[TaskRow]
    more: int


async def job_page(services: Services, number: int) -> JobPage:
    """Return the page of a job. Raises grpc.RpcError."""
    scheduler: Any = services.scheduler  # the stub's types know the synchronous channel
    job: Job = (await scheduler.GetJob(pb.GetJobRequest(job_id=number), timeout=DEADLINE_S)).job
    options = from_map(job.options)
    listed, waits, instrument, products, code_words = await asyncio.gather(
        _tasks(scheduler, number),
        _waits(scheduler, number, ended=job.state in ENDED),
        known_instrument(services, str(options.get("instrument") or "")),
        products_of(services, number),
        description_of(services, job.code_digest),
    )
    found = chips(listed, instrument.chips)
    shown = sorted(listed, key=lambda task: (task.state == TaskState.TASK_STATE_SUCCEEDED, task.ref.task))
    failed = (chip_of(task, instrument.chips) for task in listed if task.state == TaskState.TASK_STATE_FAILED)
    by = job.cancellation
    return JobPage(
        row=row(job),
        options=options,
        code=job.code_digest,
        code_words=code_words,
        failure=job.failure,
        failed_chip=next(filter(None, failed), ""),
        cancelled=f"by {by.by}" + (f": {by.reason}" if by.reason else "") if by.by else "",
        waits=waits,
        stages=stages_of(listed),
        chips=found,
        mosaic=mosaic(instrument, found),
        timeline=timeline(listed, time.time()),
        products=products,
        tasks=[_task_row(task) for task in (listed if len(listed) <= MOST_TASKS else shown[:MOST_TASKS])],
        more=max(0, len(listed) - MOST_TASKS),
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
    if told.HasField("may_start"):
        yield f"Its next task may start at {told.may_start.ToDatetime(tzinfo=UTC):%H:%M:%S}"


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
