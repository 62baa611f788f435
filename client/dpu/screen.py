"""Where a followed job is shown: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from dpu import report
from dpu_api.v1.job_pb2 import Task, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.progress import TaskID

    from dpu.report import Reporter
    from dpu_api.v1.job_pb2 import Job

UNSETTLED = frozenset({TaskState.TASK_STATE_QUEUED, TaskState.TASK_STATE_RUNNING, TaskState.TASK_STATE_LOST})


@dataclass(frozen=True, slots=True)
class Stage:
    """How far one stage of a job is."""

    number: int
    recipe: str
    total: int
    settled: int
    failed: int


def stages_of(tasks: Iterable[Task]) -> list[Stage]:
    """Return how far the stages are that have been planned; plan tasks do not count."""
    by_stage: dict[int, list[Task]] = {}
    for task in tasks:
        if not task.plan:
            by_stage.setdefault(task.stage, []).append(task)
    return [_stage(number, members) for number, members in sorted(by_stage.items())]


def _stage(number: int, tasks: list[Task]) -> Stage:
    states = [task.state for task in tasks]
    return Stage(
        number=number,
        recipe=tasks[0].recipe,
        total=len(states),
        settled=sum(state not in UNSETTLED for state in states),
        failed=states.count(TaskState.TASK_STATE_FAILED),
    )


class Screen(Protocol):
    """What shows a followed job."""

    #: Whether it wants the stages with every change: they cost a call.
    wants_stages: bool

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, *error: object) -> None:
        """End: what is shown stays."""
        ...

    def line(self, text: str) -> None:
        """Show a line of a log."""
        ...

    def update(self, job: Job, stages: list[Stage]) -> None:
        """Show how far the job is."""
        ...


class PlainScreen:
    """A line for every change."""

    wants_stages = False

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def line(self, text: str) -> None:
        """Print a line of a log."""
        self._reporter.show(text)

    def update(self, job: Job, stages: list[Stage]) -> None:  # noqa: ARG002 (the port's)
        """Print the job's status where it has changed."""
        text = report.status(job)
        if text != self._last:
            self._last = text
            self._reporter.say(text)


class BarScreen:
    """A bar for every stage, below the lines of the log."""

    wants_stages = True

    def __init__(self, reporter: Reporter) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._reporter = reporter
        self._bars: dict[int, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", style="red"),
            TimeElapsedColumn(),
            console=Console(file=reporter.out),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def line(self, text: str) -> None:
        """Print a line of a log above the bars."""
        self._progress.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def update(self, job: Job, stages: list[Stage]) -> None:
        """Move the bars; when the job has ended, say how."""
        for stage in stages:
            if stage.number not in self._bars:
                self._bars[stage.number] = self._progress.add_task(stage.recipe, note="")
            note = f"{stage.failed} failed" if stage.failed else ""
            self._progress.update(self._bars[stage.number], total=stage.total, completed=stage.settled, note=note)
        if job.state in report.ENDED:
            self.line(self._reporter.line(report.status(job)))


def screen_for(reporter: Reporter) -> Screen:
    """Return the screen that suits where the session prints."""
    return BarScreen(reporter) if reporter.is_terminal else PlainScreen(reporter)
