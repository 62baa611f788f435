"""The single writer: takes commands in order, commits what happened in groups, and only then answers."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from dpu.errors import DpuError, StorageFull, UnknownSession, Unreachable
from dpud.scheduler import codec, events, jobs, machine
from dpud.scheduler.commands import Claim, Command, Repeat, Resume, Retire, Submit, Tick
from dpud.scheduler.tally import Tally
from dpud.scheduler.watchers import Watchers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dpud.scheduler.journal import Journal
    from dpud.scheduler.model import Job, State

log = structlog.get_logger(__name__)

TICK_S = 0.25
#: A tick that comes later than this says that the scheduler itself was away: a laptop's lid.
AWAY_S = 5.0
#: After each piece of something long, everybody else is served for so long: a call of theirs has to go through
#: the event loop several times.
PAUSE_S = 0.002
_RETIRE_S = 0.05
_FREED_AT_ONCE = 5_000
#: Ended jobs beyond this many leave the memory for the history.
MAX_ENDED = 10_000

#: Topics of the watchers, beside the identifiers of jobs.
WORK = "work"
OUTBOX = "outbox"
JOBS = "jobs"

#: So many new tasks are set aside from the search for garbage at once: it would find none among them, and walking
#: a million of them stops everything for a tenth of a second.
_MANY_TASKS = 10_000

_CHANGES_WORK = {
    events.JobSubmitted,
    events.StageBegun,
    events.StagePlanned,
    events.TaskRequeued,
    events.TasksDue,
    events.JobCancelRequested,
    events.WorkerRegistered,
    events.WorkerCordoned,
    events.AllowanceSet,
    events.SessionClosed,
}


#: What may take leases from those who hold them, or have them stopped.
_UPSETS = {events.JobCancelRequested, events.TaskRequeued, events.TaskEnded}


@dataclass(slots=True)
class _Standing:
    """A claim that could not be granted yet."""

    commands: list[Claim]
    bell: asyncio.Event
    granted: list[events.Event] = field(default_factory=list)


@dataclass(slots=True)
class _Ask:
    """Commands that somebody waits for."""

    commands: tuple[Command, ...]
    answer: asyncio.Future[list[events.Event]]
    happened: list[events.Event] = field(default_factory=list)
    refusal: DpuError | None = None


class Loop:
    """Owns the state: everything reads it between commits, and nothing but the loop changes it."""

    def __init__(
        self,
        journal: Journal,
        clock: Callable[[], float] = time.time,
        *,
        logs_here: bool = False,
        max_ended: int = MAX_ENDED,
        tick_s: float = TICK_S,
    ) -> None:
        #: The state, and how many events lie behind the newest snapshot.
        self.state, self.tail = replayed(journal)
        self.state.presence.logs_here = logs_here
        self.watchers = Watchers()
        self.tally = Tally(clock())
        #: Grows when leases may have been taken from those who hold them, or are to be stopped.
        self.upsets = 0
        self._journal = journal
        self._clock = clock
        self._max_ended = max_ended
        self._tick_s = tick_s
        self._asks: list[_Ask] = []
        self._noted: list[Command] = []
        self._standing: dict[int, _Standing] = {}
        self._asked = asyncio.Event()
        self._closed = False
        self._new_tasks = 0
        self._ticked = clock()
        self._roomy = journal.roomy
        for event in machine.decide(self.state, Resume(), self._ticked):
            machine.apply(self.state, event)

    async def run(self) -> None:
        """Take commands until cancelled. Raises what the journal raises: then the process must end and replay."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tick())
                group.create_task(self._retire())
                while True:
                    await self._asked.wait()
                    self._asked.clear()
                    self._commit()
        finally:
            self._closed = True
            self._give_up(self._asks)

    async def execute(self, *commands: Command) -> list[events.Event]:
        """Do commands in order; return what happened, durable. Raises the first refusal: those before it are done."""
        if self._closed:
            raise Unreachable("the scheduler is going down: try again")
        ask = _Ask(commands, asyncio.get_running_loop().create_future())
        self._asks.append(ask)
        self._asked.set()
        return await ask.answer

    def note(self, command: Command) -> None:
        """Do a command that nobody waits for, and that is never refused, in the next commit; a tick has one."""
        self._noted.append(command)

    @contextmanager
    def standing(self, claims: list[Claim], bell: asyncio.Event) -> Iterator[list[events.Event]]:
        """Let claims stand within the block: they are granted in the commit that makes it possible.

        What was granted is in the list that this gives, durable, before the bell rings.
        """
        standing = _Standing(claims, bell)
        self._standing[id(standing)] = standing
        try:
            yield standing.granted
        finally:
            del self._standing[id(standing)]

    @property
    def roomy(self) -> bool:
        """Whether new jobs are taken: the journal's disk has room for them."""
        return self._roomy

    def now(self) -> float:
        """Return the time by which the loop decides."""
        return self._clock()

    def check(self, command: Command) -> list[events.Event]:
        """Return what would happen, and do nothing. Raises the refusal."""
        self._check_room(command)
        return machine.decide(self.state, command, self._clock())

    def _check_room(self, command: Command) -> None:
        if not self._roomy and isinstance(command, Submit | Repeat):
            raise StorageFull("the disk under the scheduler's journal is full: free some space, then try again")

    def _commit(self) -> None:
        """Do all that waits, in one transaction; nobody is answered before it is durable."""
        asks, self._asks = self._asks, []
        noted, self._noted = self._noted, []
        leaving: list[Job] = []
        try:
            happened = [event for command in noted for event in machine.execute(self.state, command, self._clock())]
            for ask in asks:
                self._do(ask, leaving)
                happened += ask.happened
            granted = self._grant(happened)
            begun = time.perf_counter()
            self._journal.append(happened, leaving, self._ended(happened, leaving))
            append_s = time.perf_counter() - begun
            self.tail += len(happened)
        except BaseException:
            self._give_up(asks)
            raise
        for ask in asks:
            _answer(ask)
        for standing, leases in granted:
            standing.granted += leases
            standing.bell.set()
        self._ring(happened)
        self.tally.commit(happened, append_s, self.state)
        self._set_aside(happened)

    def _set_aside(self, happened: list[events.Event]) -> None:
        """Keep the search for garbage away from tasks of long lists."""
        self._new_tasks += sum(len(event.labels) for event in happened if isinstance(event, events.TasksDeposited))
        if self._new_tasks >= _MANY_TASKS:
            gc.collect(1)
            gc.freeze()
            self._new_tasks = 0

    def _do(self, ask: _Ask, leaving: list[Job]) -> None:
        now = self._clock()
        try:
            for command in ask.commands:
                self._check_room(command)
                if type(command) is Retire:
                    leaving += self._about_to_leave(command)
                ask.happened += machine.execute(self.state, command, now)
        except DpuError as refusal:
            ask.refusal = refusal

    def _grant(self, happened: list[events.Event]) -> list[tuple[_Standing, list[events.Event]]]:
        """Grant the claims that stand, where something that happened may make it possible; add what follows."""
        if not any(type(event) in _CHANGES_WORK for event in happened):
            return []
        now = self._clock()
        granted = []
        for standing in self._standing.values():
            # One that was granted, and not taken up yet, is done.
            for claim in () if standing.granted else standing.commands:
                with suppress(UnknownSession):
                    if leases := machine.execute(self.state, claim, now):
                        granted.append((standing, leases))
                        happened += leases
        return granted

    def _ended(self, happened: list[events.Event], leaving: list[Job]) -> list[Job]:
        """Return the jobs that ended just now, even where they leave at once."""
        numbers = [event.job for event in happened if type(event) is events.JobEnded]
        known = self.state.jobs if not leaving else {job.id: job for job in leaving} | self.state.jobs
        return [known[number] for number in numbers]

    def _about_to_leave(self, command: Retire) -> list[Job]:
        decided = machine.decide(self.state, command, 0.0)
        return [self.state.jobs[number] for event in decided for number in machine.jobs_of(self.state, event)]

    def _give_up(self, asks: list[_Ask]) -> None:
        """Tell those who wait that nobody knows; they ask again, with the same request_id."""
        for ask in asks:
            if not ask.answer.done():
                ask.answer.set_exception(Unreachable("the scheduler could not make it durable: try again"))

    def _ring(self, happened: list[events.Event]) -> None:
        """Wake whoever waits for what changed."""
        self.upsets += any(_is_upset(event) for event in happened)
        numbers = {number for event in happened if (number := getattr(event, "job", None)) is not None}
        for number in numbers:
            self.watchers.ring(number)
        if numbers:
            self.watchers.ring(JOBS)
        if any(type(event) in _CHANGES_WORK for event in happened):
            self.watchers.ring(WORK)
        if self.state.outbox:
            self.watchers.ring(OUTBOX)

    async def _tick(self) -> None:
        while True:
            now = self._clock()
            away = now - self._ticked
            self._ticked = now
            commands: list[Command] = [Tick()]
            if abs(away) > AWAY_S:
                log.warning("the scheduler was away", seconds=away)
                commands.insert(0, Resume())
            self._watch_room()
            await self.execute(*commands)
            await asyncio.sleep(self._tick_s)

    async def _retire(self) -> None:
        """Let ended jobs beyond so many leave the memory, a few at a time."""
        while True:
            surplus = len(self.state.ended) > self._max_ended
            if surplus:
                await self._retire_oldest()
            await asyncio.sleep(min(_RETIRE_S, self._tick_s) if surplus else self._tick_s)

    async def _retire_oldest(self) -> None:
        """Let the job that ended first leave the memory, with a few more; one that is long, in pieces."""
        oldest = self.state.jobs[next(iter(self.state.ended))]
        if oldest.outbox_open:
            return  # the logs have not heard of it: it stays
        is_long = len(oldest.tasks) > jobs.RETIRED_AT_ONCE
        if is_long:
            for _ in self._journal.laying_down(oldest):
                await asyncio.sleep(PAUSE_S)
        await self.execute(Retire(self._max_ended))
        while is_long and oldest.tasks:
            # Giving memory back takes its time as well.
            del oldest.tasks[-_FREED_AT_ONCE:]
            await asyncio.sleep(PAUSE_S)

    def _watch_room(self) -> None:
        roomy = self._journal.roomy
        if roomy != self._roomy:
            log.warning("room for the journal", roomy=roomy)
        self._roomy = roomy


def _is_upset(event: events.Event) -> bool:
    """Return whether somebody's lease is gone, or is to be stopped, and not because its holder said so."""
    return type(event) in _UPSETS and not (type(event) is events.TaskEnded and event.failure is None)


def _answer(ask: _Ask) -> None:
    if ask.answer.done():
        return  # its caller went away
    if ask.refusal:
        ask.answer.set_exception(ask.refusal)
    else:
        ask.answer.set_result(ask.happened)


def replayed(journal: Journal) -> tuple[State, int]:
    """Return the state that the journal tells, and how many events lie behind its snapshot."""
    begun = time.perf_counter()
    # A state holds no cycles and lives long: looking for garbage among millions of new tasks would find none.
    gc.disable()
    try:
        state = journal.base()
        tail = 0
        for group in journal.replay():
            tail += len(group)
            for event in group:
                machine.apply(state, event)
    finally:
        gc.enable()
        gc.freeze()
    log.info(
        "journal replayed",
        events=tail,
        jobs=len(state.jobs),
        seconds=round(time.perf_counter() - begun, 3),
        format=codec.FORMAT,
    )
    return state, tail
