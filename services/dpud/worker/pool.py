"""Warm task processes: one user and one tree of code each, used again while they are as good as new."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from dpud.worker.process import TaskProcess
from dpud.worker.tenancy import Tenancy

if TYPE_CHECKING:
    from dpud.worker.quarters import Quarters

log = structlog.get_logger(__name__)

#: What nearly every recipe needs, and what takes longest to load.
PRELOADED = ("numpy", "astropy.io.fits")
#: After so many tasks, it is looked at how much a process has grown.
WEIGHED_EVERY = 10


@dataclass(frozen=True, slots=True)
class Kind:
    """Whom a process belongs to: never two users, never two trees."""

    user: str
    code_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long a process is kept."""

    idle: int
    #: Loaded into every process before it has a task.
    preload: tuple[str, ...] = PRELOADED
    idle_s: float = 300.0
    #: A process is let go after so many tasks, once it has worked for `busy_s`: a fresh one takes about a second.
    tasks: int = 200
    busy_s: float = 120.0
    #: A process that has grown by so much between its tasks is let go.
    growth_mib: float = 512.0
    #: Whether all processes at any time are one user's: what they live in cannot keep two apart.
    one_user: bool = False


class Pool:
    """The processes that run nothing at the moment, and a spare one that belongs to nobody yet."""

    def __init__(self, quarters: Quarters, policy: Policy) -> None:
        self._quarters = quarters
        self._policy = policy
        self._tenancy = Tenancy(self._move_in)
        self._idle: list[tuple[Kind, TaskProcess]] = []
        self._spare: asyncio.Task[TaskProcess] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def acquire(self, kind: Kind, *, fresh: bool = False) -> TaskProcess:
        """Return a process for one task: a warm one of the same kind, else the spare, which is replaced.

        One that is to be `fresh` has run nothing before.
        """
        if self._policy.one_user:
            await self._tenancy.enter(kind.user)
            try:
                return await self._acquire(kind, fresh=fresh)
            except BaseException:
                self._tenancy.leave()
                raise
        return await self._acquire(kind, fresh=fresh)

    async def _acquire(self, kind: Kind, *, fresh: bool) -> TaskProcess:
        for index in () if fresh else reversed(range(len(self._idle))):
            known, process = self._idle[index]
            if known == kind:
                del self._idle[index]
                if process.alive:
                    return process
                self._let_go(process)
        return await self._take_spare()

    async def release(self, kind: Kind, process: TaskProcess, unfit: str = "") -> None:
        """Take a process back after its task; it is closed where it is `unfit` (says why), used up, or one too many."""
        try:
            await self._take_back(kind, process, unfit)
        finally:
            if self._policy.one_user:
                self._tenancy.leave()

    async def _take_back(self, kind: Kind, process: TaskProcess, unfit: str) -> None:
        if reason := unfit or await self._used_up(process):
            log.info("task process closed", reason=reason, user=kind.user, tasks=process.tasks)
            await process.close()
            return
        self._idle.append((kind, process))
        while len(self._idle) > self._policy.idle:
            self._let_go(self._idle.pop(0)[1])

    async def _used_up(self, process: TaskProcess) -> str:
        if not process.alive:
            return "it is gone"
        if process.tasks >= self._policy.tasks and process.busy_s >= self._policy.busy_s:
            return f"it has run {process.tasks} tasks"
        if process.weighed and process.tasks < process.weighed + WEIGHED_EVERY:
            return ""
        memory_mib = await process.resident_mib()
        if not process.weighed:
            process.first_mib = memory_mib
        process.weighed = process.tasks
        if memory_mib > process.first_mib + self._policy.growth_mib:
            return f"it grew by more than {self._policy.growth_mib:.0f} MiB"
        return ""

    async def prepare(self) -> None:
        """Start the spare process and load what most tasks need into it, before anybody asks."""
        if self._spare is None:
            self._spare = asyncio.create_task(self._start())

    async def tend(self) -> None:
        """Close what has been idle for long; runs until cancelled."""
        while True:
            await asyncio.sleep(min(self._policy.idle_s / 4, 10.0))
            oldest = time.monotonic() - self._policy.idle_s
            for entry in [entry for entry in self._idle if entry[1].idle_since < oldest or not entry[1].alive]:
                self._idle.remove(entry)
                self._let_go(entry[1])

    async def close(self) -> None:
        """End all of them."""
        await self._end_all()

    async def _move_in(self, user: str) -> None:
        """Have nothing left of another user: the processes that wait end, the spare one with them."""
        await self._end_all()
        await self._quarters.move_in(user)

    async def _end_all(self) -> None:
        if self._spare is not None:
            with suppress(OSError):
                self._let_go(await self._spare)
        for _, process in self._idle:
            self._let_go(process)
        self._idle, self._spare = [], None
        await asyncio.gather(*self._closing)

    @property
    def idle(self) -> list[Kind]:
        """Whose processes wait, the one used last at the end."""
        return [kind for kind, _ in self._idle]

    async def _take_spare(self) -> TaskProcess:
        await self.prepare()
        taken, self._spare = self._spare, None
        if taken is None:
            return await self._start()
        process = await taken
        await self.prepare()
        if process.alive:
            return process
        self._let_go(process)
        return await self._start()

    async def _start(self) -> TaskProcess:
        process = await TaskProcess.start(self._quarters.processes / uuid4().hex, self._quarters)
        await process.send({"do": "preload", "modules": self._policy.preload})
        return process

    def _let_go(self, process: TaskProcess) -> None:
        closing = asyncio.create_task(process.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
