"""Tells the archive and the logs what counts, until they have acknowledged it."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog

from dpu.errors import DpuError, Exhausted, Unreachable
from dpud.scheduler.commands import Acknowledge
from dpud.scheduler.loop import OUTBOX
from dpud.scheduler.model import Entry, Errand

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from dpud.scheduler.loop import Loop

log = structlog.get_logger(__name__)

#: Calls at a time to the archive.
ABREAST = 16
#: Logs that are closed by one call.
AT_ONCE = 500
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

    async def close_logs(self, entries: Sequence[Entry]) -> None:
        """Have the logs of attempts closed, and after them those of jobs."""


class RecordingPeers:
    """Peers in memory that remember what they were told, and can be away."""

    def __init__(self) -> None:
        self.told: list[Entry] = []
        self.away = False

    async def _hear(self, entry: Entry) -> None:
        if self.away:
            raise Unreachable("nobody is there")
        self.told.append(entry)

    publish = discard = _hear

    async def close_logs(self, entries: Sequence[Entry]) -> None:
        """Hear of many."""
        for entry in entries:
            await self._hear(entry)


class Outbox:
    """Delivers the entries of the state's outbox."""

    def __init__(self, loop: Loop, peers: Peers, *, first_pause_s: float = FIRST_PAUSE_S) -> None:
        self._loop = loop
        self._peers = peers
        self._first_pause_s = first_pause_s
        #: A line for each service: one that is away does not hold back the other.
        self._for_archive: asyncio.Queue[Entry] = asyncio.Queue()
        self._for_logs: asyncio.Queue[Entry] = asyncio.Queue()
        #: By job: entries that close its log, which wait until all else of the job was told.
        self._closing: dict[int, Entry] = {}
        #: By job: how many of its entries the logs have refused, which are told again by themselves.
        self._refused: Counter[int] = Counter()
        self._next = 0
        self._told: list[Entry] = []
        self._heard = asyncio.Event()

    async def run(self) -> None:
        """Deliver until cancelled."""
        with self._loop.watchers.watching(OUTBOX) as bell:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for _ in range(ABREAST):
                    group.create_task(self._serve_archive())
                group.create_task(self._serve_logs())
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
        """Close a job's log, when all else of it was told, or is in the line for the logs before it."""
        if job in self._closing and not self._loop.state.jobs[job].archive_open and not self._refused[job]:
            self._for_logs.put_nowait(self._closing.pop(job))

    async def _serve_archive(self) -> None:
        """Tell one entry of the line after the other, each until it is heard."""
        while True:
            entry = await self._for_archive.get()
            tell = self._peers.publish if entry.errand is Errand.PUBLISH else self._peers.discard
            await self._insist(partial(tell, entry), entry)
            self._was_told([entry])

    async def _serve_logs(self) -> None:
        """Tell all that is in the line by one call, and then what came meanwhile: its order is kept."""
        while True:
            entries = [await self._for_logs.get()]
            while len(entries) < AT_ONCE and not self._for_logs.empty():
                entries.append(self._for_logs.get_nowait())
            if await self._insist(partial(self._peers.close_logs, entries), entries[0], refusable=True):
                self._was_told(entries)
            else:
                await self._one_by_one(entries)

    async def _one_by_one(self, entries: list[Entry]) -> None:
        """Tell entries of which one was refused; what is refused is told again later, and holds up its job alone."""
        for entry in entries:
            job = entry.ref.job
            if entry.errand is Errand.CLOSE_JOB and self._refused[job]:
                self._closing[job] = entry
            elif await self._insist(partial(self._peers.close_logs, [entry]), entry, refusable=True):
                self._was_told([entry])
            else:
                self._refused[job] += 1
                self._group.create_task(self._tell_again(entry))

    async def _tell_again(self, entry: Entry) -> None:
        await self._insist(partial(self._peers.close_logs, [entry]), entry)
        self._refused[entry.ref.job] -= 1
        self._was_told([entry])

    async def _insist(self, tell: Callable[[], Awaitable[None]], first: Entry, *, refusable: bool = False) -> bool:
        """Call until it is heard, with growing pauses; where it is `refusable`, return whether it was not refused."""
        pause = self._first_pause_s
        while True:
            try:
                await tell()
            except DpuError as error:
                if refusable and not isinstance(error, Unreachable | Exhausted):
                    return False
                log.warning("not told yet", errand=first.errand, ref=first.ref, why=error.message, again_in_s=pause)
            else:
                return True
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE_S, 2 * pause)

    def _was_told(self, entries: list[Entry]) -> None:
        if self._loop.state.presence.logs_here and not entries[0].errand.for_archive:
            # No end waits for it.
            self._loop.note(_acknowledgement(entries))
            self._close_all_that_are_last(entries)
        else:
            self._told += entries
            self._heard.set()

    async def _acknowledge(self) -> None:
        """Acknowledge what was told; all that was meanwhile goes in the next commit."""
        while True:
            await self._heard.wait()
            if not (self._for_archive.empty() and self._for_logs.empty()):
                # With so much to tell, nobody waits for a single word: a commit for many.
                await asyncio.sleep(LINGER_S)
            self._heard.clear()
            told, self._told = self._told, []
            await self._loop.execute(_acknowledgement(told))
            self._close_all_that_are_last(told)

    def _close_all_that_are_last(self, told: Sequence[Entry]) -> None:
        for job in {entry.ref.job for entry in told}:
            self._close_if_last(job)


def _acknowledgement(told: Sequence[Entry]) -> Acknowledge:
    return Acknowledge(tuple(entry.number for entry in told))
