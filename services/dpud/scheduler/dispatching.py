"""Who is there and who gets what: sessions of workers, renewals, and the choice of the next tasks."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING

from dpu.errors import UnknownSession, UsageError
from dpud.scheduler import allowances, leases, share
from dpud.scheduler.events import (
    DrainHeard,
    Event,
    LeasesExtended,
    LeasesRenewed,
    SessionClosed,
    TaskLeased,
    WorkerRegistered,
)
from dpud.scheduler.model import LEASE_TERM_S, Key, Party, State
from dpud.scheduler.presence import SESSION_TERM_S, Deadline, Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dpud.scheduler.commands import Claim, Register, Renew

#: No claim is answered with more.
MAX_ROOM = 1_000


# Deciding


def register(_state: State, command: Register, now: float) -> list[Event]:
    """Decide on a worker that makes itself known."""
    if not command.worker or command.slots < 1:
        raise UsageError(f"worker {command.worker!r} with {command.slots} slots: a worker needs a name and a slot")
    return [
        WorkerRegistered(command.session, now, command.worker, command.slots, command.memory_mib, command.catalogue)
    ]


def session_of(state: State, session: str) -> Session:
    """Return a session. Raises UnknownSession."""
    found = state.presence.sessions.get(session)
    if found is None:
        raise UnknownSession(f"session {session!r} is not known, or no longer: register anew")
    return found


def renew(state: State, command: Renew, now: float) -> list[Event]:
    """Decide on what a session holds; what its worker held before a new session and does not name is lost."""
    session = session_of(state, command.session)
    good = tuple(ref for ref, token in command.held.items() if state.holds(ref, token))
    events: list[Event] = [LeasesRenewed(command.session, now, good, now + LEASE_TERM_S)]
    if command.draining and session.worker in state.draining:
        events.append(DrainHeard(session.worker, now))
    if session.fresh:
        named = {ref.key for ref in good}
        gone = [key for key in leases.held_by(state, session.worker) if key not in named]
        events += [leases.lost(state, key, now, charged=True) for key in sorted(gone)]
    return events


def claim(state: State, command: Claim, now: float) -> list[Event]:
    """Decide which tasks a session gets: by fair share, then priority, then age; one in five by age alone."""
    session = session_of(state, command.session)
    if not state.waiting.lines or session.worker in state.cordoned:
        return []
    events: list[Event] = []
    # What waits at the worker has its memory one after the other, but each task must fit there.
    turns = _Turns(state, now, total_mib=command.memory_mib, largest_mib=session.memory_mib)
    for key in turns.take(min(command.room, MAX_ROOM)):
        task = state.jobs[key.job].tasks[key.task]
        token = f"{command.nonce}.{len(events)}"
        events.append(TaskLeased(*key, task.attempt + 1, now, token, session.worker, task.seconds))
    return events


class _Turns:
    """The users that wait, while one claim is decided; the state is not changed by it."""

    def __init__(self, state: State, now: float, *, total_mib: int, largest_mib: int) -> None:
        self._state = state
        self._total_mib = total_mib
        self._largest_mib = largest_mib
        self._taken: set[Key] = set()
        self._granted: Counter[Party] = Counter()
        lines = state.waiting.lines
        self._heap = [(self._standing(user, now), user) for user in lines]
        heapq.heapify(self._heap)
        self._users = sorted(lines)
        # What is left of each line: within a claim memory only shrinks, so what was passed over stays so.
        self._by_turn = {user: self._offers(line) for user, line in lines.items()}
        self._by_age = {user: self._offers(line.by_age()) for user, line in lines.items()}

    def _standing(self, user: str, now: float) -> float:
        had = share.standing(self._state.usage.get(user, share.Usage()), self._state.running.get(user, 0), now)
        return had / self._weight(user)

    def _weight(self, user: str) -> float:
        return allowances.of(self._state, Party("user", user)).weight

    def take(self, room: int) -> Iterator[Key]:
        """Yield at most `room` tasks that fit in the memory together, in the order of their turn."""
        for granted in range(self._state.grants, self._state.grants + room):
            key = self._oldest(granted) if share.goes_by_age(granted) else None
            key = key or self._next_by_share()
            if key is None:
                return
            self._total_mib -= self._state.jobs[key.job].tasks[key.task].memory_mib
            yield key

    def _next_by_share(self) -> Key | None:
        """Return the next task of whoever had least, and charge it."""
        while self._heap:
            had, user = self._heap[0]
            key = next(self._by_turn[user], None)
            if key is not None:
                seconds = self._state.jobs[key.job].tasks[key.task].seconds
                charge = (seconds + share.RUNNING_SLOT_S) / self._weight(user)
                heapq.heapreplace(self._heap, (had + charge, user))
                return key
            heapq.heappop(self._heap)
        return None

    def _oldest(self, granted: int) -> Key | None:
        """Return a task of the oldest job of the user whose turn it is."""
        found = (next(self._by_age[user], None) for user in share.rotated(self._users, granted))
        return next(filter(None, found), None)

    def _offers(self, line: Iterable[tuple[int, Iterable[int]]]) -> Iterator[Key]:
        """Yield the tasks of a line that fit; one that does not holds back those behind it in its job."""
        for number, tasks in line:
            job = self._state.jobs[number]
            for task in tasks:
                key = Key(number, task)
                if key in self._taken:
                    continue
                is_small = job.tasks[task].memory_mib <= min(self._total_mib, self._largest_mib)
                if not is_small or not allowances.has_room(self._state, job, self._granted):
                    break
                self._taken.add(key)
                if self._state.allowances:
                    self._granted.update(allowances.parties(job))
                yield key


def resume(state: State, now: float) -> list[Event]:
    """Decide that every lease gets one full term."""
    return [LeasesExtended(now + LEASE_TERM_S)] if state.leased else []


def silent(state: State, now: float) -> list[Event]:
    """Decide which sessions are over."""
    sessions = state.presence.sessions.items()
    return [SessionClosed(name) for name, session in sessions if session.seen + SESSION_TERM_S <= now]


# Applying


def registered(state: State, event: WorkerRegistered) -> None:
    """Open a session, and close an older one of the same worker."""
    sessions = state.presence.sessions
    for name in [name for name, session in sessions.items() if session.worker == event.worker]:
        del sessions[name]
    draining = event.worker in state.draining
    sessions[event.session] = Session(event.worker, event.slots, event.memory_mib, event.at, draining=draining)
    state.presence.catalogue = event.catalogue


def renewed(state: State, event: LeasesRenewed) -> None:
    """Let leases stand for another term."""
    session = state.presence.sessions[event.session]
    session.seen, session.fresh = event.at, False
    for ref in event.refs:
        state.presence.deadlines[ref.key] = Deadline(event.until)


def extended(state: State, event: LeasesExtended) -> None:
    """Let all leases stand; a lapse is not charged before the next renewal."""
    state.presence.deadlines = {key: Deadline(event.until, charged=False) for key in state.leased}
    for session in state.presence.sessions.values():
        session.seen = max(session.seen, event.until - LEASE_TERM_S)


def closed(state: State, event: SessionClosed) -> None:
    """Forget a session."""
    del state.presence.sessions[event.session]
