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

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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


class Pool:
    """The processes that run nothing at the moment, and a spare one that belongs to nobody yet."""

    def __init__(self, folder: Path, policy: Policy, memory_mib: Callable[[int], float]) -> None:
        self._folder = folder
        self._policy = policy
        self._memory_mib = memory_mib
        self._idle: list[tuple[Kind, TaskProcess]] = []
        self._spare: asyncio.Task[TaskProcess] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def acquire(self, kind: Kind) -> TaskProcess:
        """Return a process for one task: a warm one of the same kind, else the spare, which is replaced."""
        for index in reversed(range(len(self._idle))):
            known, process = self._idle[index]
            if known == kind:
                del self._idle[index]
                if process.alive:
                    return process
                self._let_go(process)
        return await self._take_spare()

    async def release(self, kind: Kind, process: TaskProcess, unfit: str = "") -> None:
        """Take a process back after its task; it is closed where it is `unfit` (says why), used up, or one too many."""
        if reason := unfit or self._used_up(process):
            log.info("task process closed", reason=reason, user=kind.user, tasks=process.tasks)
            await process.close()
            return
        self._idle.append((kind, process))
        while len(self._idle) > self._policy.idle:
            self._let_go(self._idle.pop(0)[1])

    def _used_up(self, process: TaskProcess) -> str:
        if not process.alive:
            return "it is gone"
        if process.tasks >= self._policy.tasks and process.busy_s >= self._policy.busy_s:
            return f"it has run {process.tasks} tasks"
        if process.weighed and process.tasks < process.weighed + WEIGHED_EVERY:
            return ""
        memory_mib = self._memory_mib(process.pid)
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
        return process if process.alive else await self._start()

    async def _start(self) -> TaskProcess:
        process = await TaskProcess.start(self._folder / uuid4().hex)
        await process.send({"do": "preload", "modules": self._policy.preload})
        return process

    def _let_go(self, process: TaskProcess) -> None:
        closing = asyncio.create_task(process.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
