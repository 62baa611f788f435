"""When which worker did what of a job: a bar a task, in as many lanes as a worker did at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dpu_api.v1.job_pb2 import TaskState
from dpud.web.queue import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.protobuf.timestamp_pb2 import Timestamp

    from dpu_api.v1.job_pb2 import Task

#: Of the picture: its width, the height of a lane. Bars thinner than THIN are one where they follow each other.
WIDTH, LANE, THIN = 1000.0, 14, 2.0
TICKS = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """What runs from x on: a task, or several short ones in a row that went the same way."""

    x: float
    width: float
    lane: int
    state: str
    words: str
    #: Whether it is several tasks.
    many: bool = False

    @property
    def y(self) -> int:
        """Where its lane is."""
        return self.lane * LANE + 1


@dataclass(frozen=True, slots=True)
class Lanes:
    """What one worker did."""

    worker: str
    bars: tuple[Bar, ...]
    lanes: int
    tasks: int
    #: Its part of the time, of all its lanes.
    busy: str

    @property
    def height(self) -> int:
        """How high its picture is."""
        return self.lanes * LANE


@dataclass(frozen=True, slots=True)
class Timeline:
    """When which worker did what."""

    #: Times of day along the top, evenly spaced.
    ticks: tuple[str, ...]
    workers: tuple[Lanes, ...]


@dataclass(frozen=True, slots=True)
class _Run:
    task: Task
    begin: float
    end: float

    @property
    def state(self) -> str:
        return TaskState.Name(self.task.state).removeprefix("TASK_STATE_").lower()

    @property
    def words(self) -> str:
        kind = f"plan of {self.task.recipe}" if self.task.plan else f"{self.task.recipe} {self.task.label}"
        return f"task {self.task.ref.task}, {kind}: {self.state}, {duration(self.end - self.begin)}"


def timeline(tasks: Iterable[Task], now: float) -> Timeline | None:
    """Return the newest attempt of each task that has begun, by worker; None where nothing has."""
    runs = [_Run(task, _time(task.started), _time(task.ended) or now) for task in tasks if task.HasField("started")]
    if not runs:
        return None
    first, last = min(run.begin for run in runs), max(run.end for run in runs)
    span = max(last - first, 0.001)
    by_worker: dict[str, list[_Run]] = {}
    for run in sorted(runs, key=lambda run: run.begin):
        by_worker.setdefault(run.task.worker, []).append(run)
    return Timeline(
        ticks=tuple(_clock(first + span * tick / TICKS, span) for tick in range(TICKS + 1)),
        workers=tuple(_lanes(worker, found, first, span) for worker, found in sorted(by_worker.items())),
    )


def _lanes(worker: str, runs: Sequence[_Run], first: float, span: float) -> Lanes:
    """Return the bars of one worker; what overlaps is in lanes of its own."""
    free: list[float] = []
    bars: list[Bar] = []
    last_of: dict[int, int] = {}
    for run in runs:
        lane = next((lane for lane, end in enumerate(free) if end <= run.begin), len(free))
        free[lane : lane + 1] = [run.end]
        x, width = (run.begin - first) / span * WIDTH, max((run.end - run.begin) / span * WIDTH, 1.0)
        bar = Bar(round(x, 1), round(width, 1), lane, run.state, run.words)
        before = last_of.get(lane)
        if before is not None and (joined := _joined(bars[before], bar)):
            bars[before] = joined
        else:
            last_of[lane] = len(bars)
            bars.append(bar)
    busy = sum(run.end - run.begin for run in runs) / (span * len(free))
    return Lanes(worker or "(unknown)", tuple(bars), len(free), len(runs), f"{busy:.0%}")


def _joined(bar: Bar, after: Bar) -> Bar | None:
    """Return two bars as one, where nobody could tell them apart."""
    end = bar.x + bar.width
    if bar.state != after.state or after.x - end >= 1 or after.width >= THIN or (bar.width >= THIN and not bar.many):
        return None
    width = round(after.x + after.width - bar.x, 1)
    return Bar(bar.x, width, bar.lane, bar.state, f"several tasks: {bar.state}", many=True)


def _clock(moment: float, span: float) -> str:
    at = datetime.fromtimestamp(moment, UTC)
    return f"{at:%H:%M:%S}" if span >= TICKS else f"{at:%H:%M:%S}.{at.microsecond // 100_000}"


def _time(stamp: Timestamp) -> float:
    return stamp.seconds + stamp.nanos / 1e9
