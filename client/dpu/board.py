"""All of a user's jobs on one board, live until the last has ended."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from dpu import report
from dpu.table import Columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from rich.console import Console, ConsoleOptions, RenderResult

    from dpu.report import Reporter
    from dpu_api.v1.job_pb2 import Job

#: Between two looks.
LOOK_S = 1.0
COLUMNS = Columns(
    names=("job", "sequence", "state", "N/E/A/S/U", "submitted", "running"),
    figures=frozenset({"job"}),
    spare=("submitted", "running"),
)
CAPTION = "Ctrl-C leaves the board; the jobs go on"
#: Lines of a window that are not a job's: of the head, the caption, and the prompt.
AROUND = 6


class Board(Protocol):
    """What shows the jobs."""

    def update(self, jobs: Sequence[Job]) -> None:
        """Show the jobs as they stand."""


class PlainBoard:
    """A line for each job that has changed."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._last: dict[int, str] = {}

    def update(self, jobs: Sequence[Job]) -> None:
        """Print the status of every job that has changed."""
        for job in jobs:
            text = report.status(job)
            if self._last.get(job.id) != text:
                self._last[job.id] = text
                self._reporter.say(text)


class LiveBoard:
    """A table that is drawn over itself."""

    def __init__(self, live: Any) -> None:
        self._live = live

    def update(self, jobs: Sequence[Job]) -> None:
        """Draw the table anew."""
        self._live.update(Picture(jobs, datetime.now(UTC)), refresh=True)


def watch(jobs: Callable[[], list[Job]], reporter: Reporter, pause_s: float = LOOK_S) -> None:
    """Show what `jobs` returns until all of them have ended; Ctrl-C leaves it."""
    with _live(reporter) as live:
        board: Board = LiveBoard(live) if live else PlainBoard(reporter)
        try:
            while True:
                found = jobs()
                board.update(found)
                if all(job.state in report.ENDED for job in found):
                    return
                time.sleep(pause_s)
        except KeyboardInterrupt:
            pass


@dataclass(frozen=True, slots=True)
class Picture:
    """The jobs as they stand at a moment, drawn as large as the window."""

    jobs: Sequence[Job]
    now: datetime

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table and what is to be said of it, for rich."""
        shown = newest(self.jobs, max(1, console.height - AROUND))
        yield COLUMNS.table([self._cells(job) for job in shown], options.max_width)
        hidden = len(self.jobs) - len(shown)
        yield CAPTION + (f"; {hidden} more {'is' if hidden == 1 else 'are'} not shown" if hidden else "")

    def _cells(self, job: Job) -> tuple[str, ...]:
        counts = report.status(job).rpartition(" ")[2]
        submitted = f"{job.submitted.ToDatetime(tzinfo=UTC).astimezone():%H:%M:%S}"
        return (str(job.id), job.sequence, report.state_of(job), counts, submitted, _running(job, self.now))


def newest(jobs: Sequence[Job], room: int) -> list[Job]:
    """Return as many jobs as there is room for, the newest last; what has ended makes way for what goes on."""
    ranked = sorted(jobs, key=lambda job: (job.state not in report.ENDED, job.id))[-room:]
    return sorted(ranked, key=lambda job: job.id)


def _running(job: Job, now: datetime) -> str:
    """Return for how long a job has been running, or ran."""
    if not job.HasField("started"):
        return ""
    until = job.ended.ToDatetime(tzinfo=UTC) if job.HasField("ended") else now
    seconds = max(0, round((until - job.started.ToDatetime(tzinfo=UTC)).total_seconds()))
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _live(reporter: Reporter) -> AbstractContextManager[Any]:
    """Return what draws over itself on a terminal; elsewhere nothing does."""
    if not reporter.is_terminal:
        return nullcontext()
    from rich.console import Console
    from rich.live import Live

    return Live(console=Console(file=reporter.out), auto_refresh=False)
