"""Following a job to its end: its progress, and its log while it is written."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from dpu import report
from dpu.errors import BadOption, DpuError, TimedOut
from dpu.joblog import Reading, deleted, lines_of, missing, tasks_of
from dpu.logquestion import EVERYTHING, LogQuestion
from dpu.screen import screen_for, stages_of
from dpu_api.v1.scheduler_pb2 import GetJobRequest, WaitJobRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from dpu.link import Link
    from dpu.report import Reporter
    from dpu.screen import Screen
    from dpu_api.v1.job_pb2 import Job
    from dpu_api.v1.logs_pb2 import ReadResponse, TaskEnd

#: A job of many short tasks changes all the time: looked at no more often than this.
GLANCE_S = 0.05
LONG_POLL_S = 25.0
#: How long the rest of a log may take once its job has ended.
LOG_REST_S = 15.0


def watch(
    link: Link,
    job_id: int,
    screen: Screen,
    *,
    timeout: float | None = None,
    settle: Callable[[], None] = lambda: None,
) -> Job:
    """Show a job's progress until its end and return it; `settle` is called before the end is shown.

    Raises NotFound; TimedOut when the time is up before.
    """
    until = None if timeout is None else time.monotonic() + timeout
    job = link.ask(lambda services: services.scheduler.GetJob, GetJobRequest(job_id=job_id)).job
    while True:
        ended = job.state in report.ENDED
        if ended:
            settle()
        screen.update(job, stages_of(tasks_of(link, job_id)) if screen.wants_stages else [])
        if ended:
            return job
        left = LONG_POLL_S if until is None else min(LONG_POLL_S, until - time.monotonic())
        if left <= 0:
            raise TimedOut(f"job {job_id} has not ended after {timeout:g} s: it is {report.state_of(job)}")
        time.sleep(min(GLANCE_S, left))
        job = _next(link, job, left)


def _next(link: Link, job: Job, seconds: float) -> Job:
    """Return the job once it has changed, or when the seconds are over."""
    request = WaitJobRequest(job_id=job.id, after_revision=job.revision, timeout=Duration())
    request.timeout.FromMicroseconds(int(seconds * 1e6))
    return link.ask(lambda services: services.scheduler.WaitJob, request, deadline=seconds + LONG_POLL_S).job


def waited(link: Link, job_id: int, reporter: Reporter, timeout: float | None) -> Job:
    """Show a job's progress until its end, then what failed first, and return it.

    Raises BadOption, NotFound, TimedOut.
    """
    if timeout is not None and not (isinstance(timeout, int | float) and timeout >= 0):
        raise BadOption(f"timeout={timeout!r}: must be a number of seconds, or None to wait for the end")
    try:
        with screen_for(reporter) as screen:
            job = watch(link, job_id, screen, timeout=timeout)
    except KeyboardInterrupt:
        reporter.say(_goes_on(job_id))
        raise
    for line in report.failure(job):
        reporter.say(line)
    return job


def follow(
    link: Link,
    job_id: int,
    screen: Screen,
    clock: Callable[[], datetime] = report.local_now,
    *,
    question: LogQuestion = EVERYTHING,
    keep: Callable[[str], None] = lambda _: None,
) -> Job:
    """Show a job's progress and its log until its end and return it; `keep` is given the lines of the log."""
    log = LiveLog(link, job_id, screen, clock, question=question, keep=keep)
    log.start()
    try:
        # The rest of the log comes before the line that says how the job has ended.
        return watch(link, job_id, screen, settle=log.finish)
    finally:
        log.stop()


def lines_followed(link: Link, job_id: int, reporter: Reporter, question: LogQuestion = EVERYTHING) -> list[str]:
    """Show a job's progress and log until its end, or until Ctrl-C; return the lines of the log that were shown."""
    lines: list[str] = []
    try:
        with screen_for(reporter) as screen:
            follow(link, job_id, screen, reporter.clock, question=question, keep=lines.append)
    except KeyboardInterrupt:
        reporter.say(_goes_on(job_id))
    return lines


def _goes_on(job_id: int) -> str:
    return f"Job {job_id} goes on: dpu.wait({job_id}), dpu.get_logs({job_id}), dpu.cancel_job({job_id})"


class LiveLog:
    """Shows the lines of a job's log while they arrive, in a thread of its own."""

    def __init__(
        self,
        link: Link,
        job_id: int,
        screen: Screen,
        clock: Callable[[], datetime],
        *,
        question: LogQuestion,
        keep: Callable[[str], None],
    ) -> None:
        self._link = link
        self._job_id = job_id
        self._screen = screen
        self._clock = clock
        self._selects = question.selects
        self._keep = keep
        self._labels: dict[int, str] = {}
        self._heard = 0
        self._reading = Reading(link, job_id, follow=True, question=question)
        self._thread = threading.Thread(target=self._run, name=f"log of job {job_id}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def finish(self) -> None:
        """Wait for the rest of the log of a job that has ended, as long as some of it comes."""
        heard = -1
        while self._thread.is_alive() and heard != self._heard:
            heard = self._heard
            self._thread.join(LOG_REST_S)
        if self._thread.is_alive():
            self._screen.line(f"The log of job {self._job_id} is still being written: dpu.get_logs({self._job_id})")

    def stop(self) -> None:
        """End the reading, wherever it is."""
        self._reading.stop()
        self._thread.join(LOG_REST_S)

    def _run(self) -> None:
        try:
            for answer in self._reading:
                self._heard += 1
                self._show(answer)
        except DpuError as error:
            self._screen.line(f"The log of job {self._job_id} cannot be followed: {error}")

    def _show(self, answer: ReadResponse) -> None:
        match answer.WhichOneof("item"):
            case "batch":
                self._tell(answer.batch.ref.task, list(lines_of(answer.batch)))
            case "task_end":
                self._tell(answer.task_end.ref.task, self._ending(answer.task_end))
            case "end" if answer.end.deleted_by:
                self._line(report.log_line(self._clock(), deleted(self._job_id, answer.end.deleted_by)))
            case _:
                pass

    def _ending(self, end: TaskEnd) -> list[str]:
        """Return the block that closes a task's log: it comes last when the log is followed."""
        now = self._clock()
        texts = [report.log_line(now, missing(end))] if missing(end) else []
        # Of some lines only, a head would say nothing that was asked for.
        return texts if self._selects else [*report.header(now, end.state), *texts]

    def _line(self, text: str) -> None:
        self._screen.line(text)
        self._keep(text)

    def _tell(self, task: int, lines: list[str]) -> None:
        """Show lines of one task with its label, since the lines of several arrive together."""
        label = self._label(task)
        for line in lines:
            time_of_day, _, text = line.partition(" -")
            self._line(f"{time_of_day} - {label}:{text}")

    def _label(self, task: int) -> str:
        if task not in self._labels:
            for known in tasks_of(self._link, self._job_id):
                self._labels[known.ref.task] = f"plan of {known.recipe}" if known.plan else known.label
        return self._labels.get(task, f"task {task}")
