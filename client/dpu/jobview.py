"""A job and its tasks as a table: at the prompt, in a terminal of any width, in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

from dpu import report
from dpu.joblog import tasks_of
from dpu.table import Columns
from dpu_api.v1.job_pb2 import TaskState
from dpu_api.v1.scheduler_pb2 import GetJobRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from dpu.link import Link
    from dpu_api.v1.job_pb2 import Task

#: So many tasks are shown; of more, those that did not end normally come first.
MOST_ROWS = 200
COLUMNS = Columns(
    names=("task", "stage", "chip", "state", "attempt", "worker", "started", "seconds", "error"),
    figures=frozenset({"task", "attempt", "seconds"}),
    spare=("worker", "attempt", "started", "seconds"),
)
STYLES = {"SUCCEEDED": "green", "FAILED": "red", "ABORTED": "yellow", "CANCELLED": "yellow", "LOST": "magenta"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """One task as it stood."""

    number: int
    #: The recipe of its stage, 'Bias'; of a plan task, 'plan of Bias'.
    stage: str
    #: A chip, or an exposure and a chip.
    label: str
    state: str
    attempt: int
    worker: str
    #: Local time of day; '' where it has not started.
    started: str
    #: How long it ran; None where it has not ended.
    seconds: float | None
    #: The first line of what went wrong; ''.
    error: str

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table, in the order of COLUMNS.names."""
        seconds = "" if self.seconds is None else f"{self.seconds:.1f}"
        attempt = str(self.attempt or "")
        where = (attempt, self.worker, self.started, seconds)
        return (str(self.number), self.stage, self.label, self.state, *where, self.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job and its tasks as they stood when they were asked for."""

    id: int
    sequence: str
    state: str
    #: 'Jobid 84820 has status FINISHED N/E/A/S/U 75/0/0/0/0'
    status: str
    tasks: tuple[TaskView, ...]

    def shown(self) -> tuple[TaskView, ...]:
        """Return the tasks that the table has room for."""
        if len(self.tasks) <= MOST_ROWS:
            return self.tasks
        return tuple(sorted(self.tasks, key=lambda task: (task.state == "SUCCEEDED", task.number))[:MOST_ROWS])

    @property
    def title(self) -> str:
        """What stands above the table."""
        left = len(self.tasks) - len(self.shown())
        return f"{self.sequence}: {self.status}" + (f" ({left} tasks more are not shown)" if left else "")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the title and the table, for rich, as they fit the window."""
        from rich.text import Text

        shown = self.shown()
        styles = [STYLES.get(task.state, "") for task in shown]
        yield Text(self.title)
        yield COLUMNS.table([task.cells() for task in shown], options.max_width, styles)

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(file=StringIO(), force_terminal=False, force_jupyter=False, no_color=True)
        with console.capture() as drawn:
            console.print(self)
        return drawn.get().rstrip("\n")

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: FBT001 (IPython's)
        """Show the table, for IPython."""
        printer.text("..." if cycle else str(self))

    def _repr_html_(self) -> str:
        """Return the table, for a notebook."""
        head = "".join(f"<th>{column}</th>" for column in COLUMNS.names)
        rows = "".join(_html_row(task.cells()) for task in self.shown())
        return f"<table><caption>{escape(self.title)}</caption><tr>{head}</tr>{rows}</table>"


def look(link: Link, job_id: int) -> JobView:
    """Return a job and its tasks as they stand. Raises NotFound."""
    job = link.ask(lambda services: services.scheduler.GetJob, GetJobRequest(job_id=job_id)).job
    tasks = tasks_of(link, job_id)
    return JobView(
        id=job.id,
        sequence=job.sequence,
        state=report.state_of(job),
        status=report.status(job),
        tasks=tuple(map(to_view, tasks)),
    )


def to_view(task: Task) -> TaskView:
    """Return a task as it is shown."""
    started = task.started.ToDatetime(tzinfo=UTC) if task.HasField("started") else None
    ended = task.ended.ToDatetime(tzinfo=UTC) if task.HasField("ended") else None
    return TaskView(
        number=task.ref.task,
        stage=f"plan of {task.recipe}" if task.plan else task.recipe,
        label=task.label,
        state=TaskState.Name(task.state).removeprefix("TASK_STATE_"),
        attempt=task.ref.attempt,
        worker=task.worker,
        started=f"{started.astimezone():%H:%M:%S}" if started else "",
        seconds=(ended - started).total_seconds() if started and ended else None,
        error=task.failure.message.partition("\n")[0],
    )


def _html_row(cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
