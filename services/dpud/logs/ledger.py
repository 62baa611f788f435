"""What is known of one job's log: pure, replayed from its records, and what decides the next ones."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from dpu.errors import Conflict, UsageError
from dpud.logs.ranges import Ranges
from dpud.logs.record import (
    Deleted,
    JobClosed,
    Key,
    Lines,
    Opened,
    Owned,
    Record,
    TaskClosed,
    TaskEnded,
    TaskLabelled,
    weight,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND_US = 1_000_000
#: How long after its end an attempt's lines are still taken.
LATE_US = 24 * 3600 * SECOND_US
#: How many holes a message about missing lines names.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class TakeLines:
    """Take `count` lines of one attempt from number `first` on."""

    task: int
    attempt: int
    first: int
    count: int
    #: Returns the lines [start, stop), numbered within the attempt, serialised.
    cut: Callable[[int, int], bytes]
    #: Whose job it is, and what tells the task from its neighbours; '' where the worker does not say.
    user: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class CloseTask:
    """Close an attempt that wrote `lines` lines (-1: unknown), waiting `patience_us` for those on their way."""

    task: int
    attempt: int
    state: int
    lines: int
    patience_us: int


@dataclass(frozen=True, slots=True)
class CloseJob:
    """Close the job."""

    state: int


@dataclass(frozen=True, slots=True)
class DeleteLines:
    """Delete the lines of the job, which has ended."""

    user: str


Command: TypeAlias = TakeLines | CloseTask | CloseJob | DeleteLines


@dataclass(slots=True)
class _Attempt:
    got: Ranges = field(default_factory=Ranges)
    closed: TaskClosed | None = None
    told: TaskEnded | None = None

    @property
    def complete(self) -> bool:
        return self.closed is not None and self.closed.lines >= 0 and not self.got.missing(0, self.closed.lines)


class Ledger:
    """One job: decide returns records and changes nothing, apply takes any record that was decided."""

    def __init__(self) -> None:
        self.project: str | None = None
        self.owner = ""
        #: What tells a task from its neighbours, of those that said so.
        self.labels: dict[int, str] = {}
        #: Who deleted the lines; '' where nobody did.
        self.deleted_by = ""
        #: The offset behind the last record.
        self.end = 0
        self.closed: JobClosed | None = None
        self._attempts: dict[Key, _Attempt] = {}
        self._newest: dict[int, int] = {}
        #: Attempts whose end followers wait for, and when their patience is over.
        self._awaited: set[Key] = set()
        self._deadlines: list[tuple[int, Key]] = []
        #: Attempts that something new is known of: nothing else needs to be looked at, however large the job is.
        self._news: set[Key] = set()

    def open(self, project: str, now: int) -> list[Record]:
        """Return what it takes to know the job as one of `project`. Raises UsageError where it is another's."""
        if self.project is None:
            return [Opened(now, project)]
        if self.project != project:
            raise UsageError(f"the job belongs to project {self.project!r}, not to {project!r}: nothing was taken")
        return []

    def decide(self, command: Command, now: int) -> list[Record]:
        """Return what the command adds; nothing where it was done before. Raises UsageError or Conflict."""
        match command:
            case DeleteLines():
                return self._delete(command, now)
            case _ if self.deleted_by:
                return self._after_deletion(command)
            case TakeLines():
                return [*self._introduced(command, now), *self._take(command, now)]
            case CloseTask():
                closed = TaskClosed(
                    now, command.task, command.attempt, command.state, command.lines, command.patience_us
                )
                attempt = self._attempts.get((command.task, command.attempt))
                known = attempt.closed if attempt else None
                same = known is not None and (known.state, known.lines) == (closed.state, closed.lines)
                return [] if same else [closed]
            case CloseJob():
                same = self.closed is not None and self.closed.state == command.state
                return [] if same else [JobClosed(now, command.state)]

    def settle(self, now: int) -> list[Record]:
        """Return the ends of attempts that are due: all lines are here, or the patience is over.

        Each attempt is looked at once, until there is news of it or its patience is over: apply what is returned.
        """
        found, self._news = self._news, set()
        while self._deadlines and self._deadlines[0][0] <= now:
            found.add(heapq.heappop(self._deadlines)[1])
        return [end for key in sorted(found) if (end := self._verdict(key, now)) is not None]

    def due(self) -> int | None:
        """Return when `settle` has something to say at the latest, without any further record."""
        if any(self._verdict(key, 0) for key in self._news):
            return 0
        while self._deadlines and self._deadlines[0][1] not in self._awaited:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def apply(self, record: Record) -> None:
        """Take over one record."""
        self.end += weight(record)
        match record:
            case Opened():
                self.project = record.project
            case Lines():
                self._applied_lines(record)
            case TaskClosed():
                self._applied_close(record)
            case TaskEnded():
                key = (record.task, record.attempt)
                self._attempt(key).told = record
                self._awaited.discard(key)
                self._news.discard(key)
            case JobClosed():
                self._applied_end(record)
            case TaskLabelled():
                self.labels[record.task] = record.label
            case Owned():
                self.owner = record.user
            case Deleted():
                self.deleted_by = record.user
                self._awaited.clear()
                self._deadlines.clear()
                self._news.clear()

    def acknowledged(self, task: int, attempt: int) -> int:
        """Return the number below which every line of the attempt that was sent is here."""
        known = self._attempts.get((task, attempt))
        return known.got.stop if known else 0

    def is_newest(self, task: int, attempt: int) -> bool:
        """Return whether no newer attempt of the task has printed."""
        return attempt >= self._newest.get(task, 0)

    @property
    def ended(self) -> bool:
        """Whether the job is closed and there is nothing more to wait for."""
        return self.closed is not None and not self._awaited

    @property
    def complete(self) -> bool:
        """Whether every attempt is known to have all of its lines here."""
        return not self.deleted_by and all(
            attempt.told is not None and attempt.told.complete for attempt in self._attempts.values()
        )

    def remains(self, now: int) -> list[Record]:
        """Return all that is kept of a job whose lines were deleted."""
        kept: list[Record] = [Opened(now, self.project or ""), Owned(now, self.owner), Deleted(now, self.deleted_by)]
        return [*kept, self.closed] if self.closed else kept

    def _introduced(self, command: TakeLines, now: int) -> list[Record]:
        """Return what the first batch of a job, and of a task, says of them."""
        said: list[Record] = []
        if command.user and not self.owner:
            said.append(Owned(now, command.user))
        if command.label and command.task not in self.labels:
            said.append(TaskLabelled(now, command.task, command.label))
        return said

    def _delete(self, command: DeleteLines, now: int) -> list[Record]:
        if self.deleted_by:
            return []
        if not self.ended:
            raise Conflict("the job has not ended, or its last lines are still awaited: its log cannot be deleted yet")
        return [Deleted(now, command.user)]

    def _after_deletion(self, command: Command) -> list[Record]:
        if isinstance(command, TakeLines):
            raise UsageError(f"the lines of this job were deleted by {self.deleted_by}: no more are taken")
        return []

    def _take(self, command: TakeLines, now: int) -> list[Record]:
        known = self._attempts.get((command.task, command.attempt))
        closed = (known and known.closed) or self.closed
        stop = command.first + command.count
        holes = known.got.missing(command.first, stop) if known else [(command.first, stop)] if command.count else []
        if holes and closed is not None and now > closed.time_us + LATE_US:
            raise UsageError(
                f"attempt {command.attempt} of task {command.task} ended more than 24 hours ago: "
                f"its lines {command.first}-{stop - 1} come too late and are not taken"
            )
        return [
            Lines(now, command.task, command.attempt, start, end - start, command.cut(start, end))
            for start, end in holes
        ]

    def _attempt(self, key: Key) -> _Attempt:
        if (attempt := self._attempts.get(key)) is None:
            attempt = self._attempts[key] = _Attempt()
        return attempt

    def _applied_close(self, record: TaskClosed) -> None:
        key = (record.task, record.attempt)
        attempt = self._attempt(key)
        attempt.closed, attempt.told = record, None
        self._await(key)
        heapq.heappush(self._deadlines, (record.time_us + record.patience_us, key))

    def _applied_end(self, record: JobClosed) -> None:
        self.closed = record
        for key, attempt in self._attempts.items():
            # One that was never closed waits for nothing once its job is.
            if attempt.closed is None and attempt.told is None:
                self._await(key)

    def _await(self, key: Key) -> None:
        """Let followers wait for the end of an attempt, which may be due already."""
        self._awaited.add(key)
        self._news.add(key)

    def _applied_lines(self, record: Lines) -> None:
        key = (record.task, record.attempt)
        attempt = self._attempt(key)
        attempt.got.add(record.first, record.first + record.count)
        self._newest[record.task] = max(record.attempt, self._newest.get(record.task, 0))
        if attempt.told is None and self.closed:
            self._await(key)
        elif key in self._awaited or (attempt.told is not None and not attempt.told.complete):
            # Late lines may fill the holes that followers were told about.
            self._news.add(key)

    def _verdict(self, key: Key, now: int) -> TaskEnded | None:
        attempt = self._attempts[key]
        closed = attempt.closed
        if closed is None:
            # Told once: the scheduler closed the job and never spoke of this attempt.
            missing = f"nobody said how this attempt ended; {_arrived(attempt.got)}"
            return None if attempt.told else TaskEnded(now, *key, 0, -1, complete=False, missing=missing)
        if attempt.complete:
            return TaskEnded(now, *key, closed.state, closed.lines, complete=True, missing="")
        if attempt.told is None and now >= closed.time_us + closed.patience_us:
            missing = _missing(closed, attempt.got)
            return TaskEnded(now, *key, closed.state, closed.lines, complete=False, missing=missing)
        return None


def _arrived(got: Ranges) -> str:
    return f"{len(got)} lines arrived, and whether there were more is not known"


def _missing(closed: TaskClosed, got: Ranges) -> str:
    """Return which lines are missing and why, for a person."""
    if closed.lines < 0:
        return f"the worker was lost; {_arrived(got)}"
    holes = got.missing(0, closed.lines)
    named = ", ".join(f"{start}-{stop - 1}" if stop - start > 1 else f"{start}" for start, stop in holes[:_NAMED])
    more = f" and {len(holes) - _NAMED} more ranges" if len(holes) > _NAMED else ""
    return (
        f"lines {named}{more} of {closed.lines} did not arrive within {closed.patience_us / SECOND_US:g} s "
        "after the end: the worker was lost or could not reach the log service"
    )
