"""The jobs that are at work: commands become records in groups, one commit for all that waits."""

from __future__ import annotations

import asyncio
import heapq
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from dpu.errors import DpuError, Unreachable
from dpud.logs.ledger import SECOND_US, DeleteLines, Ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from dpud.logs.ledger import Command, TakeLines
    from dpud.logs.record import Record
    from dpud.logs.store import Held, LogStore, Placed

log = structlog.get_logger(__name__)

#: How many jobs stay in memory when nobody reads them; the rest is replayed when it is asked for.
RESTING = 256
#: How long an end that could not be stored waits for its next try.
_AGAIN_US = SECOND_US


@dataclass(frozen=True, slots=True)
class View:
    """What readers may know of a job: what is durable."""

    project: str | None = None
    end: int = 0
    #: A number of dpu_api.v1.JobState, once the job ended and its lines are settled.
    ended: int | None = None
    complete: bool = False
    owner: str = ""
    #: Who deleted the lines; '' where nobody did.
    deleted_by: str = ""


@dataclass(slots=True)
class Job:
    """One job in memory."""

    id: int
    ledger: Ledger
    view: View = View()
    #: Set, and replaced, when the view changes.
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    holders: int = 0
    #: Its ledger knows of records that could not be stored.
    ahead: bool = False

    def publish(self) -> None:
        """Show readers what the ledger says by now."""
        ledger = self.ledger
        ended = ledger.closed.state if ledger.closed is not None and ledger.ended else None
        self.view = View(
            ledger.project,
            ledger.end,
            ended,
            complete=ended is not None and ledger.complete,
            owner=ledger.owner,
            deleted_by=ledger.deleted_by,
        )
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass(slots=True)
class _Group:
    """Orders that are answered together, when the last of them is."""

    done: asyncio.Future[None]
    left: int
    error: DpuError | None = None

    def answer(self, error: DpuError | None) -> None:
        """Take the answer to one order; nobody is there any more where the call was cancelled."""
        self.left -= 1
        self.error = self.error or error
        if self.left or self.done.done():
            return
        if self.error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(self.error)


@dataclass(frozen=True, slots=True)
class _Order:
    """A command that waits for its commit."""

    job_id: int
    project: str
    command: Command
    group: _Group


class Aggregator:
    """Takes commands and answers when they are durable. `now` gives microseconds since 1970."""

    def __init__(self, store: LogStore, now: Callable[[], int], *, resting: int = RESTING) -> None:
        self._store = store
        self._now = now
        self._resting = resting
        self._jobs: dict[int, Job] = {}
        self._orders: list[_Order] = []
        #: Those of the commit that is being made.
        self._committing: list[_Order] = []
        self._due: list[tuple[int, int]] = []
        self._awake = asyncio.Event()
        # A job that is being removed must not be appended to meanwhile.
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Commit whatever waits, for ever."""
        while True:
            await self._something()
            async with self._writing:
                await self._commit()

    async def order(self, job_id: int, project: str, command: Command) -> None:
        """Carry out a command; durable on return. Raises UsageError or StorageFull, and then nothing was kept."""
        await self.order_all([(job_id, project, command)])

    async def order_all(self, commands: Sequence[tuple[int, str, Command]], linger_s: float = 0.0) -> None:
        """Carry out commands of jobs and their projects, in order and in one commit; durable on return.

        The commit may wait for others for `linger_s`. Raises the first refusal, when all others were carried out.
        """
        group = _Group(asyncio.get_running_loop().create_future(), len(commands))
        self._orders += [_Order(*command, group) for command in commands]
        if linger_s:
            asyncio.get_running_loop().call_later(linger_s, self._awake.set)
        else:
            self._awake.set()
        await group.done

    async def take(self, commands: Sequence[tuple[int, str, TakeLines]]) -> list[int]:
        """Take lines; return for each command the number below which every line that was sent is durable."""
        async with AsyncExitStack() as held:
            numbers = dict.fromkeys(job_id for job_id, _, _ in commands)
            jobs = {number: await held.enter_async_context(self.holding(number)) for number in numbers}
            await self.order_all(commands)
            return [jobs[job_id].ledger.acknowledged(command.task, command.attempt) for job_id, _, command in commands]

    @asynccontextmanager
    async def holding(self, job_id: int) -> AsyncIterator[Job]:
        """Keep a job in memory, known or not, while the block runs."""
        job = await self._job(job_id)
        job.holders += 1
        try:
            yield job
        finally:
            job.holders -= 1

    async def caught_up(self, job_id: int) -> None:
        """Return when what was ordered for a job until now can be seen, or was refused."""
        under_way = {order.group.done for order in (*self._committing, *self._orders) if order.job_id == job_id}
        if under_way:
            self._awake.set()
            await asyncio.wait(under_way)

    async def read(self, job: Job, offset: int, budget: int) -> list[Placed]:
        """Return records of the job from `offset` on."""
        return await self._store.read(job.id, offset, budget)

    async def highest_job(self) -> int:
        """Return the highest job of which something is kept; 0 without any."""
        return max(await self._store.jobs(), default=0)

    async def delete(self, job_id: int, project: str, user: str) -> None:
        """Delete the lines of a job that has ended; its end and who deleted them stay. Raises Conflict."""
        async with self.holding(job_id) as job:
            await self.order(job_id, project, DeleteLines(user))
            async with self._writing:
                # A crash in between leaves nothing at all, or the record above, by which nobody reads a line any more.
                await self._store.remove(job_id)
                await self._store.append({job_id: job.ledger.remains(self._now())})
                job.ledger = await self._replayed(job_id)
                job.publish()

    async def remove_where(self, expired: Callable[[Held], bool]) -> list[int]:
        """Remove the jobs that have expired and that nobody reads; return their identifiers."""
        removed = []
        for job_id, known in (await self._store.jobs()).items():
            async with self._writing:
                held = self._jobs.get(job_id)
                if not expired(known) or (held is not None and held.holders):
                    continue
                self._jobs.pop(job_id, None)
                await self._store.remove(job_id)
                removed.append(job_id)
        return removed

    async def seal_where(self, rested: Callable[[Held], bool]) -> list[int]:
        """Seal the jobs that have rested and have ended; return their identifiers."""
        sealed = []
        for job_id, known in (await self._store.jobs()).items():
            if not rested(known):
                continue
            try:
                async with self.holding(job_id) as job:
                    if job.view.ended is not None:
                        await self._store.seal(job_id, job.view.ended)
                        sealed.append(job_id)
            except DpuError as error:
                log.warning("a log cannot be sealed", job=job_id, error=error.message)
            self._rest()
        return sealed

    async def _something(self) -> None:
        """Return when an order waits or an attempt's patience is over."""
        try:
            timeout = max(0.0, (self._due[0][0] - self._now()) / SECOND_US) if self._due else None
            async with asyncio.timeout(timeout):
                await self._awake.wait()
        except TimeoutError:
            pass
        self._awake.clear()

    async def _commit(self) -> None:
        """Decide, apply, append, show, answer: in this order, for everything that waits."""
        orders, self._orders = self._orders, []
        self._committing = orders
        now = self._now()
        records: dict[int, list[Record]] = {}
        touched = await self._overdue(now)
        taken = []
        for order in orders:
            try:
                job = touched[order.job_id] = await self._sound(order.job_id)
                decided = [*job.ledger.open(order.project, now), *job.ledger.decide(order.command, now)]
            except DpuError as error:
                order.group.answer(error)
                continue
            self._apply(job, decided, records)
            taken.append(order)
        for job in touched.values():
            self._apply(job, job.ledger.settle(now), records)
        failure = await self._append(records, touched)
        for order in taken:
            order.group.answer(failure)
        for job in touched.values():
            self._schedule(job, now)
        self._rest()

    def _apply(self, job: Job, decided: list[Record], records: dict[int, list[Record]]) -> None:
        for record in decided:
            job.ledger.apply(record)
        if decided:
            records.setdefault(job.id, []).extend(decided)

    async def _append(self, records: dict[int, list[Record]], touched: dict[int, Job]) -> DpuError | None:
        """Make records durable and visible; where that fails, return why, and mark the ledgers that went ahead."""
        if not records:
            return None
        try:
            await self._store.append(records)
        except DpuError as error:
            log.warning("nothing could be stored", jobs=sorted(records), error=error.message)
            for job_id in records:
                touched[job_id].ahead = True
            return error
        for job_id in records:
            touched[job_id].publish()
        return None

    async def _overdue(self, now: int) -> dict[int, Job]:
        """Return the jobs in which somebody's patience is over."""
        overdue = {}
        while self._due and self._due[0][0] <= now:
            job_id = heapq.heappop(self._due)[1]
            try:
                overdue[job_id] = await self._sound(job_id)
            except DpuError as error:
                # One job that cannot be read is no reason to stop the others; its readers are told why.
                log.warning("a log cannot be read", job=job_id, error=error.message)
                if isinstance(error, Unreachable):
                    heapq.heappush(self._due, (now + _AGAIN_US, job_id))
        return overdue

    def _schedule(self, job: Job, now: int) -> None:
        due = now + _AGAIN_US if job.ahead else job.ledger.due()
        if due is not None:
            heapq.heappush(self._due, (max(due, now), job.id))

    async def _job(self, job_id: int) -> Job:
        job = self._jobs.get(job_id)
        if job is None:
            ledger = await self._replayed(job_id)
            # Somebody else may have brought it in while the store was read.
            job = self._jobs.setdefault(job_id, Job(job_id, ledger))
            if job.ledger is ledger:
                job.publish()
                self._schedule(job, 0)
                # The commit loop may sleep until a later time than this job's.
                self._awake.set()
        return job

    async def _sound(self, job_id: int) -> Job:
        """Return a job whose ledger is what is stored; for the commit loop alone."""
        job = await self._job(job_id)
        if job.ahead:
            job.ledger = await self._replayed(job_id)
            job.ahead = False
        return job

    async def _replayed(self, job_id: int) -> Ledger:
        ledger = Ledger()
        await self._store.replay(job_id, ledger.apply)
        return ledger

    def _rest(self) -> None:
        """Let go of the jobs that nobody holds, the oldest first; of several at once, for all are looked at."""
        if len(self._jobs) > self._resting:
            free = [job_id for job_id, job in self._jobs.items() if not job.holders]
            for job_id in free[: len(self._jobs) - self._resting + self._resting // 8]:
                del self._jobs[job_id]
