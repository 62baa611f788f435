"""What a worker says and is told, by a stream or by a call: what it says takes effect in order, news come at once."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from dpu.errors import StaleLease, UsageError
from dpud.scheduler.answers import Answer, answer
from dpud.scheduler.commands import Claim
from dpud.scheduler.dispatching import session_of
from dpud.scheduler.events import TaskLeased
from dpud.scheduler.hearing import gathered
from dpud.scheduler.leases import held_by
from dpud.scheduler.loop import WORK
from dpud.scheduler.model import Key, Ref
from dpud.scheduler.watchers import heard

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator

    from dpud.scheduler.commands import Plan, WorkCall
    from dpud.scheduler.events import Event
    from dpud.scheduler.hearing import Words
    from dpud.scheduler.loop import Loop
    from dpud.scheduler.polls import Poll, Polls
    from dpud.scheduler.presence import Session

#: A stream is begun anew after so long: who sends it is looked at then.
STREAM_S = 600.0
#: Nothing is not said on it more often than this.
QUIET_S = 1.0


class Attendance:
    """One worker, from its first word on a stream, or in one call."""

    def __init__(self, loop: Loop, polls: Polls, poll: Poll, first: WorkCall) -> None:
        #: How many of the ends that it told were of leases that were another's by then.
        self.stale_reports = 0
        #: What it claims, until it is given something or says something else.
        self.claims: list[Claim] = []
        #: What it was given of that, durable.
        self.granted: list[Event] = []
        #: The number of the last answer.
        self.number = 0
        self._loop = loop
        self._polls = polls
        self._poll = poll
        # Nothing is claimed before what it holds was heard.
        self._call = replace(first, room=0)
        # Leases that it holds, by what it said and what it was given.
        self._held: dict[Ref, str] = {}
        # Those of them that were not looked at yet, and how much had been upset when all were.
        self._unseen: dict[Ref, str] = {}
        self._upsets = loop.upsets
        # Those of them that are to be stopped.
        self._cancelled: tuple[Ref, ...] = ()
        # Leases of which it has not heard, as far as it said: the answer that they went with, and their memory.
        self._given: deque[tuple[int, TaskLeased, int]] = deque()
        self._given_mib = 0
        # Those of them that no answer has told yet.
        self._untold: list[TaskLeased] = []
        # The last claim, as long as nothing was leased by it.
        self._unspent: Claim | None = None
        self._said = Answer()
        self._spoke = _now()
        self._has_ended = False
        # Whether what it said last has taken effect.
        self._is_heard = True

    async def take(self, call: WorkCall, heard_of: int = 0) -> None:
        """Do what it says; durable on return. Raises UnknownSession."""
        while self._given and self._given[0][0] <= heard_of:
            self._given_mib -= self._given.popleft()[2]
        self._take_up()
        self._call, self._is_heard = call, False
        # What it claimed before counts no more: what it claims now is in the same commit as what it tells.
        self.claims.clear()
        happened = await self._execute(call)
        self._is_heard = True
        reports = [*call.reports, *(plan.report for plan in call.plans)]
        said = answer(self._loop.state, reports, call.renewal.held, ())
        self.stale_reports += sum(report.ref in said.stale for report in reports)
        if call.renewal.held:
            self._held = dict(call.renewal.held) | {_ref(lease): lease.token for _, lease, _ in self._given}
            self._unseen = dict(self._held)
        for ref in (*said.acknowledged, *said.stale):
            self._held.pop(ref, None)
        self._said = self._said.followed_by(said)
        self._give(happened)
        self._stand()
        self._poll.bell.set()

    async def _execute(self, call: WorkCall) -> list[Event]:
        """Have all that was said take effect; a plan that is refused makes its task fail."""
        try:
            return await self._loop.execute(*call.reports, call.renewal, *call.plans, *self._claim())
        except (UsageError, StaleLease):
            for plan in call.plans:
                with suppress(StaleLease):
                    await self._plan(plan)
            return await self._loop.execute(*self._claim())

    async def _plan(self, plan: Plan) -> None:
        try:
            await self._loop.execute(plan)
        except UsageError as refusal:
            await self._loop.execute(plan.refused(refusal.message))

    def _give(self, happened: Iterable[Event]) -> None:
        """Have the leases of what happened go with the next answer."""
        for event in happened:
            if type(event) is TaskLeased:
                self._unspent = None
                memory_mib = self._memory_mib(event)
                self._given.append((self.number + 1, event, memory_mib))
                self._given_mib += memory_mib
                self._untold.append(event)
                ref = _ref(event)
                self._held[ref] = self._unseen[ref] = event.token

    def _take_up(self) -> None:
        """Have what was granted meanwhile go with the next answer."""
        self._give(self.granted)
        self.granted.clear()

    def _stand(self) -> None:
        """Let what is left of the claim stand; while a newer one is on its way through the loop, nothing does."""
        self.claims[:] = self._claim() if self._is_heard else []

    def _claim(self) -> list[Claim]:
        """Return what it still claims, with tokens that are nobody's; nothing where it has no room."""
        room = self._call.room - len(self._given)
        if room <= 0:
            return []
        memory_mib = self._call.memory_mib - self._given_mib
        session, last = self._call.renewal.session, self._unspent
        if last is None or (last.session, last.room, last.memory_mib) != (session, room, memory_mib):
            last = Claim(session=session, room=room, memory_mib=memory_mib, nonce=secrets.token_hex(8))
            self._unspent = last
        return [last]

    def _memory_mib(self, lease: TaskLeased) -> int:
        task = self._loop.state.find(Key(lease.job, lease.task))
        return task.memory_mib if task else 0

    async def answers(self, first: Words, rest: AsyncIterator[Words]) -> AsyncGenerator[Answer, None]:
        """Do all that it says on a stream, and give what it is to be told, until that is over, or lasts for too long.

        Raises UnknownSession.
        """
        until = _now() + STREAM_S
        listening = asyncio.create_task(self._listen(first, rest))
        try:
            while _now() < until:
                said = await self.news()
                if self.is_over:
                    break
                yield said
        finally:
            listening.cancel()
            await asyncio.wait({listening})
        if not listening.cancelled():
            listening.result()

    async def _listen(self, first: Words, rest: AsyncIterator[Words]) -> None:
        try:
            await self.take(*first)
            self._tell_again()
            async with aclosing(gathered(rest)) as words:
                async for call, heard_of in words:
                    await self.take(call, heard_of)
        finally:
            self._has_ended = True
            self._poll.bell.set()

    def _tell_again(self) -> None:
        """Have it told of leases that are its own and that it does not name: what told it of them never came."""
        state = self._loop.state
        worker = session_of(state, self._call.renewal.session).worker
        for key in held_by(state, worker):
            task = state.jobs[key.job].tasks[key.task]
            if Ref(*key, task.attempt) not in self._held:
                self._give([TaskLeased(*key, task.attempt, task.started, task.token, worker, task.seconds)])
        self._stand()

    @property
    def is_over(self) -> bool:
        """Whether nobody is told anything any more: it says no more, or says it in a newer call."""
        return self._has_ended or self._poll.superseded

    async def news(self) -> Answer:
        """Return what it is to be told, once there is something, or when its wait or all this is over.

        Raises UnknownSession.
        """
        while True:
            self._poll.bell.clear()
            self._take_up()
            self._stand()
            said = self._now_said(session_of(self._loop.state, self._call.renewal.session))
            left = self._spoke + self._call.wait_s - _now()
            if self.is_over or left <= 0 or said.has_news(self._poll.told, claimed=bool(self.claims)):
                self._was_told(said)
                return said
            await heard(self._poll.bell, left)

    def _now_said(self, session: Session) -> Answer:
        """Return what there is to say; of what it holds, only what is new or may be upset is looked at."""
        if self._upsets != self._loop.upsets:
            self._upsets, self._unseen = self._loop.upsets, self._held
        if self._unseen or self._cancelled:
            seen = answer(self._loop.state, (), self._unseen, ())
            before = (ref for ref in self._cancelled if ref in self._held)
            self._cancelled = tuple(dict.fromkeys((*before, *seen.cancel)))
            self._unseen = {}
            self._said = self._said.followed_by(replace(seen, cancel=self._cancelled))
        drain = session.draining and not self._call.draining
        return replace(self._said, leases=tuple(self._untold), drain=drain) if self._untold or drain else self._said

    def _was_told(self, said: Answer) -> None:
        self.number += 1
        self._polls.tell(self._call.renewal.session, self._poll, said.cancel)
        for ref in said.stale:
            self._held.pop(ref, None)
        self._said = Answer()
        self._untold.clear()
        self._spoke = _now()
        if said.drain:
            # Once is enough.
            self._call = replace(self._call, draining=True)


@contextmanager
def attending(loop: Loop, polls: Polls, first: WorkCall) -> Iterator[Attendance]:
    """Give the attendance of a worker within the block; an older one of its session is over. Raises UnknownSession."""
    session = first.renewal.session
    session_of(loop.state, session)
    with loop.watchers.watching(WORK) as bell, polls.open(session, bell) as poll:
        attendance = Attendance(loop, polls, poll, first)
        with loop.standing(attendance.claims, bell) as attendance.granted:
            yield attendance


def _ref(lease: TaskLeased) -> Ref:
    return Ref(lease.job, lease.task, lease.attempt)


def _now() -> float:
    return asyncio.get_running_loop().time()
