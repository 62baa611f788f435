"""What the archive knows of a frame beyond the frame itself: whose it is, who made it, who may see it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import quote

from dpu_recipes import validity
from dpu_recipes.archive import Selection
from dpu_recipes.frames import QUALITY_FIGURE
from dpud.archive.conditions import ALWAYS, Condition

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from dpu_recipes.frames import Frame


class Level(IntEnum):
    """How far a frame is seen: its privilege level."""

    OWN = 1  # whoever made it, in its project
    PROJECT = 2  # its project
    EVERYBODY = 3  # every user of the archive, in every project
    WORLD = 4  # also who is no user; the archive serves nobody else yet
    OBSERVATORY = 5  # the Virtual Observatory, likewise


#: The audience of what every project sees.
EVERYBODY = str(int(Level.EVERYBODY))


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
    #: Whether others than its own job see it; how many others, its level says.
    published: bool = True
    privileges: Level = Level.PROJECT
    #: Order of arrival; 0 before the catalogue gave it one.
    sequence: int = 0

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with `changes`."""
        return replace(self, **changes)

    @property
    def audience(self) -> str:
        """Return who sees it, in the words in which a view says what it sees."""
        if not self.published and self.attempt is not None:
            return _of_job(self.project, self.attempt.job)
        match self.privileges:
            case Level.OWN:
                return _of_user(self.project, self.user)
            case Level.PROJECT:
                return _of_project(self.project)
            case _:
                return EVERYBODY

    @property
    def sources(self) -> tuple[str, ...]:
        """Return identifiers of what a product was made from: its inputs, and the calibrations that it asked for.

        The figure of a product is part of it, and made from nothing.
        """
        if self.frame.frame_class == QUALITY_FIGURE:
            return ()
        answers = [answer for *_, answer in json.loads(self.frame.consulted or "[]") if answer]
        return tuple(dict.fromkeys([*self.frame.inputs, *answers])) if self.attempt is not None else ()


def _of_job(project: str, job: int) -> str:
    return f"0/{_safe(project)}/{job}"


def _of_user(project: str, user: str) -> str:
    return f"{Level.OWN}/{_safe(project)}/{_safe(user)}"


def _of_project(project: str) -> str:
    return f"{Level.PROJECT}/{_safe(project)}"


def _safe(name: str) -> str:
    return quote(name, safe="")


@dataclass(frozen=True, slots=True)
class View:
    """What somebody sees: frames of a project by their level, what others show everybody, what one job has staged."""

    project: str
    job: int = 0
    #: Whose own frames are seen too; '' nobody's.
    user: str = ""

    @property
    def audiences(self) -> tuple[str, ...]:
        """Return the audiences to which it belongs."""
        return (
            _of_project(self.project),
            EVERYBODY,
            *((_of_user(self.project, self.user),) if self.user else ()),
            *((_of_job(self.project, self.job),) if self.job else ()),
        )

    def shows(self, record: Record) -> bool:
        """Return whether a record is seen."""
        return record.audience in self.audiences

    def nearest(self, records: Sequence[Record]) -> list[Record]:
        """Return the records without twins: of a raw frame that several projects have, one's own goes before others."""
        best: dict[str, Record] = {}
        for record in records:
            best[record.frame.id] = min(best.get(record.frame.id, record), record, key=self._distance)
        return [record for record in records if best[record.frame.id] is record]

    def _distance(self, record: Record) -> tuple[bool, int]:
        return record.project != self.project, record.sequence


class First(NamedTuple):
    """Frames in the order of an attribute."""

    attribute: str
    #: The greatest first, else the least.
    greatest: bool


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
    #: SHA-256 of the file that was ingested, in the view's own project; '' any.
    source: str = ""
    condition: Condition = ALWAYS
    #: Which of them first, where it is not the earliest.
    first: First | None = None

    @property
    def is_narrow(self) -> bool:
        """Return whether it finds few frames, whatever there is."""
        chosen = self.selection
        return self.only_job or bool(self.source or chosen.file_names or chosen.identity)

    def fits(self, record: Record) -> bool:
        """Return whether a record is one of those, as long as it has no twin."""
        if self.only_job and (record.attempt is None or record.attempt.job != self.view.job):
            return False
        if self.frame_class and record.frame.frame_class != self.frame_class:
            return False
        if self.source and (record.source, record.project) != (self.source, self.view.project):
            return False
        if not (self.view.shows(record) and self.condition.holds(record)):
            return False
        return validity.matches(record.frame, self.selection)


class Link(NamedTuple):
    """One thing that a product was made from."""

    product: str
    #: Identifier of what it was made from, and the digest of its file; '' of what is only values.
    input: str
    digest: str


@dataclass(frozen=True, slots=True)
class Family:
    """A frame with all that it was made from, or all that was made from it, as far as it may be seen.

    A link may name what is not among the records: it is gone, or is not to be seen.
    """

    records: list[Record]
    links: list[Link]

    def without_strangers(self) -> Family:
        """Return it without links to products that are not to be seen."""
        known = {record.frame.id for record in self.records}
        return Family(self.records, [link for link in self.links if link.product in known])


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
