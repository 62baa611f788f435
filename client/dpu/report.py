"""What is printed at the prompt: every line of it, as text."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from dpu.options import INSTRUMENT, default_of
from dpu_api.v1.job_pb2 import JobState, TaskState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from dpu_api.v1 import catalogue_pb2, job_pb2

RULE = "+" * 44
#: After the project and `instrument=`, these come first, by short or long name; then the rest as given.
FIRST = (("i",), ("c", "chip"), ("d", "date"), ("f", "filter"), ("o", "object"))

ENDED = frozenset({JobState.JOB_STATE_FINISHED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED})
#: The figure in a log block: 0 all well, 1 error, 2 aborted.
JOB_STATUS: Mapping[TaskState.ValueType, int] = {
    TaskState.TASK_STATE_SUCCEEDED: 0,
    TaskState.TASK_STATE_FAILED: 1,
    TaskState.TASK_STATE_LOST: 1,
    TaskState.TASK_STATE_ABORTED: 2,
    TaskState.TASK_STATE_CANCELLED: 2,
}


def local_now() -> datetime:
    """Return the time here."""
    return datetime.now(UTC).astimezone()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Prints for one session."""

    host: str = field(default_factory=lambda: socket.gethostname().partition(".")[0])
    clock: Callable[[], datetime] = local_now
    #: None: standard output, as it is when something is printed.
    out: TextIO | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether somebody sees it on a terminal, where what was printed can be drawn over."""
        return (self.out or sys.stdout).isatty()

    def line(self, text: str) -> str:
        """Return '[host] HH:MM:SS - text'."""
        return f"[{self.host}] {self.clock():%H:%M:%S} - {text}"

    def say(self, text: str) -> None:
        """Print '[host] HH:MM:SS - text'."""
        self.show(self.line(text))

    def show(self, text: str) -> None:
        """Print `text` as it is; whole, also where two threads print at once."""
        print(f"{text}\n", end="", file=self.out, flush=True)

    def picture(self, path: Path) -> None:
        """Show a picture in a notebook; a terminal shows none."""
        if "ipykernel" in sys.modules:
            from IPython.display import Image, display

            display(Image(filename=str(path)))  # type: ignore[no-untyped-call]  # IPython's, partly typed


def calling(sequence: str, project: str, given: Mapping[str, object]) -> str:
    """Return what `run` says before it submits."""
    rest = {name: value for name, value in given.items() if name != INSTRUMENT}
    shown = {"project": project, INSTRUMENT: given.get(INSTRUMENT, "")}
    for names in FIRST:
        shown |= {name: rest.pop(name) for name in names if name in rest}
    return f"Calling: {sequence}({', '.join(f'{name}={value}' for name, value in (shown | rest).items())})"


def estimate(seconds: float) -> str:
    """Return what `run` says of the time that a job will take."""
    whole = max(1, round(seconds))
    return f"Estimated process time : {whole} second{'' if whole == 1 else 's'}"


def state_of(job: job_pb2.Job) -> str:
    """Return 'FINISHED' and the like."""
    return JobState.Name(job.state).removeprefix("JOB_STATE_")


def status(job: job_pb2.Job) -> str:
    """Return what `get_status` says of a job."""
    n = job.counts
    counts = f"{n.normal}/{n.error}/{n.aborted}/{n.submitted}/{n.unknown}"
    return f"Jobid {job.id} has status {state_of(job)} N/E/A/S/U {counts}"


def failure(job: job_pb2.Job) -> Iterator[str]:
    """Yield what went wrong first, in one line; nothing of a job in which nothing did."""
    if job.failure.message:
        yield f"The first failure: {job.failure.message.partition(chr(10))[0]}"


def recognised(sequence: catalogue_pb2.Sequence) -> Iterator[str]:
    """Yield the lines of `show_sequence_options`."""
    yield "Recognized options for the OptionsParser are:"
    for option in sequence.options:
        if not option.unlisted:
            yield f'  "{option.short_name}" or "{option.long_name}" (default: {default_of(option)})'


def log_line(time: datetime, text: str) -> str:
    """Return one line of a log: 'HH:MM:SS - text'."""
    return f"{time:%H:%M:%S} - {text}".rstrip()


def header(time: datetime, state: TaskState.ValueType) -> list[str]:
    """Return the lines that head a task's log: its job_status between two rules."""
    figure = JOB_STATUS.get(state, "none yet, it has not ended")
    return [log_line(time, text) for text in (RULE, f"job_status = {figure}", RULE)]


def block(time: datetime, state: TaskState.ValueType, lines: Iterable[str]) -> list[str]:
    """Return a task's log: its header, an empty line, what it printed."""
    return [*header(time, state), log_line(time, ""), *lines]
