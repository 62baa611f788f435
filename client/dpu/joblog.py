"""The log of a job: read from the log service without loss or repeat, and told a task."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc

from dpu.aside import aside
from dpu.errors import TimedOut, Unreachable
from dpu.logquestion import EVERYTHING, LogQuestion
from dpu.report import block, log_line
from dpu_api.v1.job_pb2 import Task, TaskState
from dpu_api.v1.scheduler_pb2 import GetJobRequest, ListTasksRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpu.link import Link, Patience
    from dpu_api.v1.logs_pb2 import LogBatch, ReadResponse, TaskEnd

#: One stream of the log service lasts no longer; what follows goes on from its offset.
STREAM_S = 3600.0
#: How long after the end of its job a line may be on its way: the log service waits for none any longer.
REST_S = 15.0
#: The log of a job that ended longer ago may be open because it was removed.
LATELY_S = 60.0


class Reading:
    """One reading of a job's log. It resumes by offset when the connection is lost."""

    def __init__(self, link: Link, job_id: int, *, follow: bool, question: LogQuestion = EVERYTHING) -> None:
        self._link = link
        self._request = question.request(job_id, follow=follow)
        self._call: Any = None
        self._stopped = threading.Event()

    def __iter__(self) -> Iterator[ReadResponse]:
        """Yield what the service sends, up to and with the job's end; after `stop`, nothing more."""
        patience: Patience | None = None
        while not self._stopped.is_set():
            try:
                self._call = self._link.services().logs.Read(self._request, timeout=STREAM_S)
                if self._stopped.is_set():  # between the loop's look and the call
                    self._call.cancel()
                for answer in self._call:
                    self._link.worked()
                    patience = None
                    self._request.offset = answer.offset
                    # From here on everything that is wanted is new.
                    self._request.tail = 0
                    yield answer
                    if answer.HasField("end"):
                        return
                # A stream that ends well without the end record was broken all the same.
                patience = patience or self._link.patience()
                patience.lost(Unreachable(f"the log of job {self._request.job_id} broke off"))
            except (grpc.RpcError, Unreachable) as error:
                if self._stopped.is_set():
                    return  # it was us who cancelled the call
                meant = self._link.meaning(error)
                patience = patience or self._link.patience()
                if not (isinstance(meant, TimedOut) and self._request.follow):
                    patience.lost(meant)

    def stop(self) -> None:
        """End the iteration, from another thread too."""
        self._stopped.set()
        if self._call is not None:
            self._call.cancel()


@dataclass(slots=True)
class TaskLog:
    """What is known of one task's log."""

    lines: list[str] = field(default_factory=list)
    #: Which lines are missing and why; '' for none.
    missing: str = ""


def tasks_of(link: Link, job_id: int) -> list[Task]:
    """Return all tasks of a job in order of their numbers. Raises NotFound."""
    tasks: list[Task] = []
    request = ListTasksRequest(job_id=job_id)
    while True:
        page = link.ask(lambda services: services.scheduler.ListTasks, request)
        tasks.extend(page.tasks)
        if not page.next_page_token:
            return tasks
        request.page_token = page.next_page_token


def lines_of(batch: LogBatch) -> Iterator[str]:
    """Yield the lines of a batch as they are printed, with the local time."""
    for time_us, text in zip(batch.time_us, batch.texts, strict=True):
        yield log_line(datetime.fromtimestamp(time_us / 1e6, UTC).astimezone(), text)


def blocks(link: Link, job_id: int, now: datetime, question: LogQuestion = EVERYTHING) -> list[str]:
    """Return a job's log as lines, a block a task, the first failure's first. Raises NotFound.

    Where the question selects, tasks none of whose lines are wanted are left out.
    """
    tasks = tasks_of(link, job_id)
    log = aside(lambda: _read(link, job_id, now, question))
    if log.deleted_by:
        return [log_line(now, deleted(job_id, log.deleted_by))]
    shown: list[str] = []
    for task in _failure_first(tasks):
        told = log.tasks.get(task.ref.task, TaskLog())
        if question.selects:
            if told.lines:
                shown += block(now, task.state, [*told.lines, *_lacking(told, now)])
        elif not task.plan or told.lines or task.state == TaskState.TASK_STATE_FAILED:
            shown += block(now, task.state, [*told.lines, *_lacking(told, now), *_reason(task, told, now)])
    return shown


def _failure_first(tasks: list[Task]) -> list[Task]:
    """Return the task that failed first, where one did, then the others in their order."""
    failed = [task for task in tasks if task.state == TaskState.TASK_STATE_FAILED]
    if not failed:
        return tasks
    first = min(failed, key=lambda task: (task.ended.ToNanoseconds(), task.ref.task))
    return [first, *(task for task in tasks if task is not first)]


@dataclass(slots=True)
class JobLog:
    """What is known of a job's log."""

    tasks: dict[int, TaskLog] = field(default_factory=lambda: defaultdict(TaskLog))
    deleted_by: str = ""
    #: Whether more may come.
    open: bool = False


def _read(link: Link, job_id: int, now: datetime, question: LogQuestion) -> JobLog:
    """Return a job's log; of a job that has ended a moment ago, with the lines that were on their way."""
    log = _collect(Reading(link, job_id, follow=False, question=question))
    if not log.open or not _ended_lately(link, job_id, now):
        return log
    rest = Reading(link, job_id, follow=True, question=LogQuestion(tail=1))
    patience = threading.Timer(REST_S, rest.stop)
    patience.start()
    try:
        for _ in rest:
            pass
    finally:
        patience.cancel()
    return _collect(Reading(link, job_id, follow=False, question=question))


def _ended_lately(link: Link, job_id: int, now: datetime) -> bool:
    job = link.ask(lambda services: services.scheduler.GetJob, GetJobRequest(job_id=job_id)).job
    return job.HasField("ended") and (now - job.ended.ToDatetime(tzinfo=UTC)).total_seconds() < LATELY_S


def _collect(reading: Reading) -> JobLog:
    log = JobLog()
    for answer in reading:
        match answer.WhichOneof("item"):
            case "batch":
                log.tasks[answer.batch.ref.task].lines.extend(lines_of(answer.batch))
            case "task_end":
                log.tasks[answer.task_end.ref.task].missing = missing(answer.task_end)
            case "end":
                log.deleted_by, log.open = answer.end.deleted_by, answer.end.open
            case _:
                pass
    return log


def deleted(job_id: int, user: str) -> str:
    """Return what is said of a job whose lines were deleted."""
    return f"the lines of job {job_id} were deleted by {user}"


def missing(end: TaskEnd) -> str:
    """Return what a task's end says of missing lines, or ''."""
    return "" if end.complete else f"the log is not complete: {end.missing or 'lines are missing'}"


def _lacking(log: TaskLog, now: datetime) -> Iterator[str]:
    """Yield what is said of lines that are missing."""
    if log.missing:
        yield log_line(now, log.missing)


def _reason(task: Task, log: TaskLog, now: datetime) -> Iterator[str]:
    """Yield why a task failed, where its own lines do not tell."""
    # Of a task that ended well, it is an earlier attempt's.
    failed = task.state != TaskState.TASK_STATE_SUCCEEDED and task.failure.message
    if failed and not any(task.failure.message in line for line in log.lines):
        yield log_line(now, task.failure.message)
