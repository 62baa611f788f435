"""Tells the archive and the logs what counts, until they have acknowledged it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import structlog

from dpu.errors import DpuError, Unreachable
from dpud.scheduler.commands import Acknowledge
from dpud.scheduler.loop import OUTBOX
from dpud.scheduler.model import Entry, Errand

if TYPE_CHECKING:
    from dpud.scheduler.loop import Loop

log = structlog.get_logger(__name__)

#: Calls at a time to each service.
ABREAST = 16
#: Pauses after a failure double from the first up to the longest.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 15.0
#: How long acknowledgements are collected while more is to be told.
LINGER_S = 0.05


class Peers(Protocol):
    """Who is told. Raises DpuError where it was not heard; every call may be repeated."""

    async def publish(self, entry: Entry) -> None:
        """Have an attempt's products become visible."""

    async def discard(self, entry: Entry) -> None:
        """Have an attempt's products removed."""

    async def close_task(self, entry: Entry) -> None:
        """Have an attempt's log closed."""

    async def close_job(self, entry: Entry) -> None:
        """Have a job's log closed."""


class RecordingPeers:
    """Peers in memory that remember what they were told, and can be away."""

    def __init__(self) -> None:
        self.told: list[Entry] = []
        self.away = False

    async def _hear(self, entry: Entry) -> None:
        if self.away:
            raise Unreachable("nobody is there")
        self.told.append(entry)

    publish = discard = close_task = close_job = _hear


class Outbox:
    """Delivers the entries of the state's outbox."""

    def __init__(self, loop: Loop, peers: Peers, *, first_pause_s: float = FIRST_PAUSE_S) -> None:
        self._loop = loop
        self._first_pause_s = first_pause_s
        self._tell = {
            Errand.PUBLISH: peers.publish,
            Errand.DISCARD: peers.discard,
            Errand.CLOSE_TASK: peers.close_task,
            Errand.CLOSE_JOB: peers.close_job,
        }
        #: A line for each service: one that is away does not hold back the other.
        self._for_archive: asyncio.Queue[Entry] = asyncio.Queue()
        self._for_logs: asyncio.Queue[Entry] = asyncio.Queue()
        #: By job: entries that close its log, which wait until all else of the job was told.
        self._closing: dict[int, Entry] = {}
        self._next = 0
        self._told: list[Entry] = []
        self._heard = asyncio.Event()

    async def run(self) -> None:
        """Deliver until cancelled."""
        with self._loop.watchers.watching(OUTBOX) as bell:
            async with asyncio.TaskGroup() as group:
                for line in (self._for_archive, self._for_logs):
                    for _ in range(ABREAST):
                        group.create_task(self._serve(line))
                group.create_task(self._acknowledge())
                while True:
                    bell.clear()
                    self._line_up()
                    await bell.wait()

    def _line_up(self) -> None:
        """Take what is new in the state's outbox; numbers only grow."""
        outbox, last = self._loop.state.outbox, self._loop.state.next_entry
        numbers = range(self._next, last) if self._next else list(outbox)
        for entry in (outbox[number] for number in numbers if number in outbox):
            if entry.errand is Errand.CLOSE_JOB:
                self._closing[entry.ref.job] = entry
                self._close_if_last(entry.ref.job)
            else:
                (self._for_archive if entry.errand.for_archive else self._for_logs).put_nowait(entry)
        self._next = last

    def _close_if_last(self, job: int) -> None:
        if job in self._closing and self._loop.state.jobs[job].outbox_open == 1:
            self._for_logs.put_nowait(self._closing.pop(job))

    async def _serve(self, line: asyncio.Queue[Entry]) -> None:
        """Tell one entry of a line after the other, each until it is heard."""
        while True:
            entry = await line.get()
            pause = self._first_pause_s
            while not await self._was_told(entry, pause):
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE_S, 2 * pause)
            self._told.append(entry)
            self._heard.set()

    async def _was_told(self, entry: Entry, pause: float) -> bool:
        try:
            await self._tell[entry.errand](entry)
        except DpuError as error:
            log.warning("not told yet", errand=entry.errand, ref=entry.ref, why=error.message, again_in_s=pause)
            return False
        return True

    async def _acknowledge(self) -> None:
        """Acknowledge what was told; all that was meanwhile goes in the next commit."""
        while True:
            await self._heard.wait()
            if not (self._for_archive.empty() and self._for_logs.empty()):
                # With so much to tell, nobody waits for a single word: a commit for many.
                await asyncio.sleep(LINGER_S)
            self._heard.clear()
            told, self._told = self._told, []
            await self._loop.execute(Acknowledge(tuple(entry.number for entry in told)))
            for job in {entry.ref.job for entry in told}:
                self._close_if_last(job)
