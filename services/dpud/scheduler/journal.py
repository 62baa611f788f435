"""The journal: a port, and its adapter in memory.

A journal holds groups of events, one a commit, and the history of jobs that left the memory. It has one writer:
opening it makes whoever had it open before unable to append.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from dpu.errors import InternalError
from dpud.scheduler import codec, machine
from dpud.scheduler.model import Job, JobState
from dpud.scheduler.snapshot import dump_state, load_state
from dpud.scheduler.totals import Slot, Totals, totals_of
from dpud.scheduler.words import has_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from dpud.scheduler.events import Event
    from dpud.scheduler.model import State, Task
    from dpud.scheduler.totals import Kind


class Superseded(InternalError):
    """Another scheduler writes the journal by now: this one must end."""


class AppendFailed(InternalError):
    """The journal took nothing: this scheduler must end, and start from what is durable."""


class UnreadableJournal(InternalError):
    """The journal was written by another version of the software."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which jobs are wanted, newest first; what is empty does not restrict."""

    project: str
    ids: frozenset[int] = frozenset()
    user: str = ""
    states: frozenset[JobState] = frozenset()
    sequence: str = ""
    #: Jobs that have not ended, or ended after this.
    ended_after: float = 0.0
    #: Only jobs with a smaller identifier; 0: from the newest on.
    before: int = 0
    #: Only jobs with a greater one.
    above: int = 0
    #: Only jobs of which all these are words.
    words: frozenset[str] = frozenset()

    def fits(self, job: Job) -> bool:
        """Return whether a job is wanted."""
        return (
            job.project == self.project
            and (not self.ids or job.id in self.ids)
            and (not self.user or job.user == self.user)
            and (not self.states or job.state in self.states)
            and (not self.sequence or job.sequence == self.sequence)
            and (not job.state.ended or job.ended > self.ended_after)
            and (not self.before or job.id < self.before)
            and job.id > self.above
            and has_words(job, self.words)
        )


class Past(Protocol):
    """What is known of jobs that left the memory, and of all that have ended."""

    def history(self, query: Query, limit: int) -> list[Job]:
        """Return retired jobs without their tasks, newest first, at most `limit`."""

    def tasks(self, job: int, first: int, limit: int) -> list[Task]:
        """Return tasks of a retired job, from `first` on, at most `limit`."""

    def totals(self, project: str, since: int, kind: Kind) -> dict[Any, Totals]:
        """Return what a project's jobs came to that ended since a day, by day, owner or sequence, in order."""


class Journal(Protocol):
    """What the loop needs of a journal."""

    def base(self) -> State:
        """Return the state of the newest snapshot; an empty one without any."""

    def replay(self) -> Iterator[Sequence[Event]]:
        """Yield all groups behind the newest snapshot, in order."""

    def append(self, events: Sequence[Event], retired: Iterable[Job] = (), ended: Iterable[Job] = ()) -> None:
        """Make a group durable, and with it the jobs that leave the memory, and what those came to that ended.

        Raises Superseded, or AppendFailed; nothing was stored then.
        """

    def laying_down(self, job: Job) -> Iterator[None]:
        """Make the tasks of an ended job durable, some of them each time that this is asked to go on.

        A long job takes long: what is done before it leaves need not be done while everybody waits. Raises as append.
        """

    @property
    def roomy(self) -> bool:
        """Whether there is room for more than the leases and ends of what is there already."""


@dataclass(slots=True)
class Shelf:
    """What outlives a MemoryJournal: stands for the disk."""

    snapshot: list[bytes] = field(default_factory=list)
    groups: list[bytes] = field(default_factory=list)
    history: dict[int, bytes] = field(default_factory=dict)
    totals: dict[Slot, Totals] = field(default_factory=dict)
    epoch: int = 0
    #: Nearly nothing more fits; nothing at all does.
    full: bool = False
    broken: bool = False


class MemoryJournal:
    """A journal for tests and trials: as durable as its shelf."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        self._shelf = shelf or Shelf()
        self._shelf.epoch += 1
        self._epoch = self._shelf.epoch

    def base(self) -> State:
        """Return the state of the snapshot on the shelf."""
        return load_state(self._shelf.snapshot)

    def replay(self) -> Iterator[Sequence[Event]]:
        """Yield all groups behind the snapshot, in order."""
        return map(codec.load_events, self._shelf.groups)

    def append(self, events: Sequence[Event], retired: Iterable[Job] = (), ended: Iterable[Job] = ()) -> None:
        """Keep a group on the shelf."""
        if self._epoch != self._shelf.epoch:
            raise Superseded
        if self._shelf.broken:
            raise AppendFailed("the shelf is broken")
        self._shelf.history |= {job.id: codec.dump(job) for job in retired}
        for slot, totals in totals_of(ended).items():
            self._shelf.totals[slot] = self._shelf.totals.get(slot, Totals()) + totals
        if body := codec.dump_events(events):
            self._shelf.groups.append(body)

    def laying_down(self, _job: Job) -> Iterator[None]:
        """Do nothing: nobody waits for long here."""
        return iter(())

    def shorten(self) -> None:
        """Put a snapshot of all that the journal tells on the shelf, in place of the groups."""
        state = self.base()
        for group in self.replay():
            for event in group:
                machine.apply(state, event)
        self._shelf.snapshot, self._shelf.groups = list(dump_state(state)), []

    @property
    def roomy(self) -> bool:
        """Whether the shelf takes more."""
        return not self._shelf.full

    def history(self, query: Query, limit: int) -> list[Job]:
        """Return retired jobs without their tasks, newest first, at most `limit`."""
        jobs = (codec.load(Job, self._shelf.history[number]) for number in sorted(self._shelf.history, reverse=True))
        return [replace(job, tasks=[]) for job in jobs if query.fits(job)][:limit]

    def tasks(self, job: int, first: int, limit: int) -> list[Task]:
        """Return tasks of a retired job, from `first` on, at most `limit`."""
        body = self._shelf.history.get(job)
        return codec.load(Job, body).tasks[first : first + limit] if body else []

    def totals(self, project: str, since: int, kind: Kind) -> dict[Any, Totals]:
        """Return what a project's jobs came to that ended since a day."""
        found: dict[Any, Totals] = {}
        for slot, totals in sorted(self._shelf.totals.items()):
            if slot.project == project and slot.day >= since:
                found[getattr(slot, kind)] = found.get(getattr(slot, kind), Totals()) + totals
        return dict(sorted(found.items()))

    def close(self) -> None:
        """Do nothing: the shelf stays."""
