"""What the archive knows of a frame beyond the frame itself: whose it is, who made it, who may see it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from dpu_recipes.archive import Selection

if TYPE_CHECKING:
    from datetime import datetime

    from dpu_recipes.frames import Frame


class Attempt(NamedTuple):
    """One attempt at one task of one job."""

    job: int
    task: int
    #: Counts from 1.
    attempt: int

    def __str__(self) -> str:
        """Return what messages call it."""
        return f"attempt {self.attempt} at task {self.task} of job {self.job}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A frame, as it stands in the catalogue."""

    frame: Frame
    project: str
    user: str
    #: Of a raw frame: SHA-256 of the file that was ingested; '' of one that was read in place and not packed.
    source: str = ""
    #: Of a product: who made it, and which of the attempt's products it is.
    attempt: Attempt | None = None
    number: int = 0
    code_digest: str = ""
    #: Whether the whole project sees it; else only its own job.
    published: bool = True
    #: Order of arrival; 0 before the catalogue gave it one.
    sequence: int = 0

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with `changes`."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class View:
    """What somebody sees: the published frames of a project, and what one of its jobs has staged."""

    project: str
    job: int = 0

    def shows(self, record: Record) -> bool:
        """Return whether a record is seen."""
        mine = record.attempt is not None and self.job != 0 and record.attempt.job == self.job
        return record.project == self.project and (record.published or mine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which frames: those of a view that fit every field that is given."""

    view: View
    #: '' any.
    frame_class: str = ""
    #: Its instrument may be '' here: any.
    selection: Selection = field(default_factory=lambda: Selection(instrument=""))
    #: Only products of the view's job, in order of task and number instead of DATE-OBS and chip.
    only_job: bool = False
    #: SHA-256 of the file that was ingested; '' any.
    source: str = ""


class Position(NamedTuple):
    """Where a record stands in a list: DATE-OBS in microseconds (of a job's products: the task), chip, arrival."""

    first: int
    chip: str
    sequence: int


def position(record: Record, *, only_job: bool) -> Position:
    """Return where a record stands in a list."""
    if only_job and record.attempt is not None:
        return Position(record.attempt.task, "", record.sequence)
    return Position(microseconds(record.frame.date_obs), record.frame.chip, record.sequence)


def microseconds(time: datetime) -> int:
    """Return a time as whole microseconds since 1970, which every database orders alike."""
    whole = int(time.replace(microsecond=0).timestamp())
    return whole * 1_000_000 + time.microsecond
