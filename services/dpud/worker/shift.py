"""One process's shift: attempts of one user with one tree of code, run one after the other without a word in between.

A task that is long has a shift of its own. Short ones come several at a time; each of them can be taken back until it
begins, and begins only when nothing of the one before it is left.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import AsyncExitStack
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn

import structlog

from dpu.errors import BadTree, DpuError, NotFound, UsageError
from dpu_api.v1.job_pb2 import Failure, FailureCategory
from dpud.worker import outcome, sandbox
from dpud.worker.channel import BrokenChannel
from dpud.worker.logship import BATCH_S
from dpud.worker.outcome import Stop
from dpud.worker.pool import Kind
from dpud.worker.quarters import Belongings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from dpu_api.v1.dispatch_pb2 import TaskLease
    from dpu_api.v1.job_pb2 import TaskRef
    from dpud.worker.attempt import Attempt, Bench, Result
    from dpud.worker.lines import Lines
    from dpud.worker.process import TaskProcess

    Ended: TypeAlias = Callable[[Attempt, Result], Awaitable[None]]
    PutBack: TypeAlias = Callable[[list[TaskLease]], None]

log = structlog.get_logger(__name__)

#: How often a running task's time, memory and disk are looked at.
CHECK_S = 0.25
#: A task that runs for longer does not keep those behind it waiting.
SHORT_S = 0.1

_numbers = count()


class Shift:
    """Runs attempts in a process of the pool, and answers what that process asks."""

    def __init__(self, attempts: Sequence[Attempt], bench: Bench) -> None:
        #: Those that run or may be begun, the one that runs first; and those that were taken back.
        self._attempts = deque(attempts)
        self._left: list[Attempt] = []
        self._numbers = {next(_numbers): attempt for attempt in attempts}
        self._bench = bench
        self._process: TaskProcess | None = None
        self._bell: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unfit = ""
        # When the lines of the attempt that runs travel, and what has them do so.
        self._due: asyncio.TimerHandle | None = None
        self._travelling: asyncio.Task[None] | None = None

    async def run(self, ended: Ended, put_back: PutBack) -> None:
        """Run them; tell `ended` how each ended, and `put_back` which will never begin here, as soon as it is known.

        When the end is told, nothing of the attempt runs any more, and what it wrote is gone.
        """
        self._ended = ended
        self._put_back = put_back
        failure: Failure | None = None
        try:
            await self._with_code()
        except (BadTree, NotFound) as error:
            failure = Failure(category=FailureCategory.FAILURE_CATEGORY_CODE, message=error.message)
        except UsageError as error:
            failure = Failure(category=FailureCategory.FAILURE_CATEGORY_RECIPE, message=error.message)
        except (DpuError, OSError) as error:
            failure = outcome.infrastructure(str(error))
        except Exception as error:
            # A fault of ours in one shift is no reason to end the others of this worker.
            log.exception("shift failed", tasks=len(self._numbers))
            failure = outcome.infrastructure(f"a fault of the worker's own: {type(error).__name__}: {error}")
        while failure is not None and self._attempts:
            await self._finish(self._attempts[0], failure)
        if self._due is not None:
            self._due.cancel()
        self._let_go()

    def stop(self, ref: TaskRef, why: Stop) -> None:
        """End one of the attempts before its time."""
        for attempt in self._attempts:
            if attempt.lease.ref == ref:
                attempt.stop(why)
                self._ring()

    def _ring(self) -> None:
        if not self._bell.done():
            self._bell.set_result(None)

    async def _with_code(self) -> None:
        """Have the code, run, and let the code go."""
        lease = self._attempts[0].lease
        async with AsyncExitStack() as held:
            tree = packages = None
            if lease.code_digest:
                tree = await held.enter_async_context(self._bench.trees.holding(lease.code_digest, lease.project))
                packages = await held.enter_async_context(self._bench.packages.holding(tree))
                if lease.plan:
                    # The first line of a job says by which code it is done.
                    described = self._bench.trees.description
                    code = lease.code_description or await described(lease.code_digest, lease.project)
                    await self._attempts[0].say(f"Using the code {code}")
                    self._flush_in_time()
            for attempt in [attempt for attempt in self._attempts if attempt.stopping]:
                await self._finish(attempt, attempt.stopped())
            if self._attempts:
                await self._in_process(Kind(lease.user, lease.code_digest), tree, packages)

    async def _in_process(self, kind: Kind, tree: Path | None, packages: Path | None) -> None:
        """Run in a process of the pool."""
        bench = self._bench
        caches = sandbox.caches_of(bench.quarters.caches, kind.user, kind.code_digest)
        process = self._process = await bench.pool.acquire(kind, fresh=self._attempts[0].lease.alone)
        self._unfit = "its task was broken off"
        try:
            order = self._order(process, caches) | {"tree": _path(tree), "packages": _path(packages)}
            if process.tasks == 0:
                uid = bench.walls.uid_of(kind.user)
                await bench.quarters.furnish(Belongings(process.home, caches, uid))
                code = [path for path in (tree, packages) if path is not None]
                order["confinement"] = bench.walls.around(kind.user, code, process.folder, caches)
                if bench.groups is not None:
                    await process.join(bench.groups.group())
            if process.group is not None:
                process.group.limit(self._attempts[0].allowance.memory_mib)
            now = time.monotonic()
            for attempt in self._attempts:
                attempt.begun = now
                attempt.alone = process.tasks == 0 and len(self._attempts) == 1
            await self._supervise(process, order)
            if self._attempts:
                await self._died(process)
        finally:
            self._take_back()
            await bench.pool.release(kind, process, self._unfit)

    def _order(self, process: TaskProcess, caches: Path) -> dict[str, Any]:
        left = set(self._attempts)
        return {
            "do": "tasks",
            "instruments": _path(self._bench.instruments),
            "environment": sandbox.task_environment(process.scratch, caches),
            "bytecode": str(caches / "pycache"),
            "limits": self._attempts[0].allowance.limits(),
            "tasks": [attempt.order(number) for number, attempt in self._numbers.items() if attempt in left],
        }

    async def _supervise(self, process: TaskProcess, order: dict[str, Any]) -> None:
        """See the process through its tasks; what remains of the attempts afterwards has died with it."""
        running = asyncio.create_task(process.run(order, self))
        while not running.done():
            # Between two looks nothing is asked of the machine; a task that is shorter is never looked at.
            pause = SHORT_S if len(self._attempts) > 1 else CHECK_S
            either: set[asyncio.Future[Any]] = {running, self._bell}
            await asyncio.wait(either, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            if self._bell.done():
                self._bell = asyncio.get_running_loop().create_future()
            if running.done():
                break
            used_mib, stored_mib = await process.memory_mib(), await process.disk_mib()
            if running.done() or not self._attempts:
                # The last one ended meanwhile, and in a moment the run does.
                continue
            await self._look(process, used_mib, stored_mib)
            if not self._attempts:
                # All of them were taken back: the process waits for another shift.
                self._unfit = ""
                await _cancelled(running)
            elif len(self._attempts) == 1 and (why := self._attempts[0].stopping):
                await self._halt(process, running, why)
        if not running.cancelled():
            running.result()

    async def _look(self, process: TaskProcess, used_mib: float, stored_mib: float) -> None:
        """Take back what waits behind a task that lasts, or was stopped; note why the running one must be stopped."""
        head = self._attempts[0]
        if head.stopping is None:
            _limit(head, used_mib, stored_mib)
        lasts = len(self._attempts) > 1 and time.monotonic() - head.begun > SHORT_S
        if lasts or any(attempt.stopping for attempt in self._attempts):
            self._take_back()
            if head in self._left and not head.stopping:
                self._give_again(head)
            for attempt in [attempt for attempt in self._left if attempt.stopping]:
                self._left.remove(attempt)
                await self._finish(attempt, attempt.stopped())
            self._let_go()
        if len(self._attempts) == 1:
            process.listen()

    def _take_back(self) -> None:
        """Have what was not begun by now never begin."""
        if self._process is not None:
            for number in sorted(self._process.tickets.take_back()):
                if (attempt := self._numbers[number]) in self._attempts:
                    self._attempts.remove(attempt)
                    self._left.append(attempt)

    def _let_go(self) -> None:
        """Put back what was taken back: another slot may be free."""
        if left := [attempt.lease for attempt in self._left]:
            self._left.clear()
            self._put_back(left)

    def _give_again(self, head: Attempt) -> None:
        """Let the one that comes first be begun after all: the process may still be on its way up."""
        if self._process is not None:
            self._left.remove(head)
            self._attempts.appendleft(head)
            self._process.tickets.give([number for number, attempt in self._numbers.items() if attempt is head])

    async def _halt(self, process: TaskProcess, running: asyncio.Task[bool], why: Stop) -> None:
        """Stop the process for certain; its task may still come to its end."""
        await process.stop(self._bench.grace_s.get(why, 0.0))
        # Its last lines are in its channel and its pipes, which are closed now; but it may have waited for an answer.
        await asyncio.wait({running}, timeout=CHECK_S)
        await _cancelled(running)

    async def _died(self, process: TaskProcess) -> None:
        """Tell the end of the task that ran when the process died; without one, of the task that came first."""
        self._unfit = "it died"
        status = await process.gone()
        first = self._attempts[0]
        self._take_back()
        dead = self._attempts[0] if self._attempts else first
        if dead is first and first in self._left:
            self._left.remove(first)
        kernel_killed = self._kernel_killed(process)
        await self._finish(dead, dead.stopped() if dead.stopping else dead.died(status, kernel_killed=kernel_killed))

    def _kernel_killed(self, process: TaskProcess) -> bool:
        """Return whether the kernel killed something for want of memory: of this process, if it can be told."""
        return (self._bench.kernel_kills if process.group is None else process.group).more()

    async def _finish(self, attempt: Attempt, failure: Failure | None) -> None:
        if attempt in self._attempts:
            self._attempts.remove(attempt)
        await self._ended(attempt, await attempt.finish(failure))

    # What the process says

    async def answer(self, call: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Answer a call of the archive. Where the archive fails, the task is stopped and never hears of it."""
        if self._process is None or not self._attempts:
            raise BrokenChannel("a call came without its task")
        attempt = self._attempts[0]
        try:
            return await attempt.answer(call, arguments, self._process.scratch)
        except (DpuError, OSError) as error:
            attempt.stop(Stop.INFRASTRUCTURE, str(error))
            self._ring()
            return await _never()

    async def print(self, lines: Lines) -> None:
        """Take lines of the task that runs."""
        if self._attempts:
            await self._attempts[0].print(lines)
            self._flush_in_time()

    def _flush_in_time(self) -> None:
        """Have lines travel when they are as old as they may be; where their attempt ends before, they have."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(BATCH_S, self._flush)

    def _flush(self) -> None:
        self._due = None
        if self._attempts:
            self._travelling = asyncio.create_task(self._attempts[0].flush())

    def plan(self, tasks: list[dict[str, Any]]) -> None:
        """Take a part of a plan."""
        if self._attempts:
            self._attempts[0].plan(tasks)

    async def end(self, end: dict[str, Any]) -> int:
        """Take the end of the task that ran; return how many run after it."""
        attempt = self._attempts[0]
        failure = attempt.said(end)
        if failure is not None and self._process is not None and self._process.group is not None:
            # A child that was killed for want of memory is why its parent gave up.
            failure = attempt.starved(failure) if self._process.group.more() else failure
        self._unfit = ", ".join(end["leftovers"])
        if self._unfit:
            # The process takes no more of them.
            self._take_back()
        await self._finish(attempt, failure)
        if self._attempts:
            self._attempts[0].begun = attempt.ended
        return len(self._attempts)


def _limit(head: Attempt, used_mib: float, stored_mib: float) -> None:
    """Stop the attempt that runs where it takes more than it may."""
    allowed = head.allowance
    if time.monotonic() > head.begun + allowed.time_s:
        head.stop(Stop.TIME)
    head.peak_mib = max(head.peak_mib, used_mib)
    if used_mib > allowed.memory_mib:
        head.stop(Stop.MEMORY)
    elif stored_mib > allowed.scratch_mib:
        head.stop(Stop.SCRATCH)


def _path(place: Path | None) -> str | None:
    return None if place is None else str(place)


async def _cancelled(running: asyncio.Task[bool]) -> None:
    running.cancel()
    await asyncio.wait({running})


async def _never() -> NoReturn:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("cancelled with the process")
