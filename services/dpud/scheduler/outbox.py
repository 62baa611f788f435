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
    from collections.abc import Iterator

    from dpud.scheduler.loop import Loop
    from dpud.scheduler.model import State

log = structlog.get_logger(__name__)

#: Calls at a time, and entries of each service that are called for or wait for their next try.
ABREAST = 16
UNDER_WAY = 256
#: Pauses after a failure double from the first up to the longest.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 15.0


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
        self._peers = peers
        self._first_pause_s = first_pause_s
        self._under_way: dict[int, Entry] = {}
        self._delivered: list[int] = []
        self._slots = asyncio.Semaphore(ABREAST)

    async def run(self) -> None:
        """Deliver until cancelled."""
        with self._loop.watchers.watching(OUTBOX) as bell:
            async with asyncio.TaskGroup() as group:
                while True:
                    bell.clear()
                    for entry in list(self._next()):
                        self._under_way[entry.number] = entry
                        group.create_task(self._deliver(entry))
                    await bell.wait()

    def _next(self) -> Iterator[Entry]:
        """Yield what is to be told now; one service that is away does not hold back the other's."""
        to_archive = sum(entry.errand.for_archive for entry in self._under_way.values())
        room = {True: UNDER_WAY - to_archive, False: UNDER_WAY - len(self._under_way) + to_archive}
        for entry in deliverable(self._loop.state):
            if not any(room.values()):
                return
            if entry.number not in self._under_way and room[entry.errand.for_archive]:
                room[entry.errand.for_archive] -= 1
                yield entry

    async def _deliver(self, entry: Entry) -> None:
        """Tell one entry until it is heard."""
        pause = self._first_pause_s
        while not await self._told(entry, pause):
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE_S, 2 * pause)
        self._delivered.append(entry.number)
        await self._acknowledge()

    async def _told(self, entry: Entry, pause: float) -> bool:
        tell = {
            Errand.PUBLISH: self._peers.publish,
            Errand.DISCARD: self._peers.discard,
            Errand.CLOSE_TASK: self._peers.close_task,
            Errand.CLOSE_JOB: self._peers.close_job,
        }[entry.errand]
        try:
            async with self._slots:
                await tell(entry)
        except DpuError as error:
            log.warning("not told yet", errand=entry.errand, ref=entry.ref, why=error.message, again_in_s=pause)
            return False
        return True

    async def _acknowledge(self) -> None:
        """Acknowledge all that was delivered by now; whoever comes first does it for the others."""
        # One turn of the loop lets deliveries that ended together share one commit.
        await asyncio.sleep(0)
        if self._delivered:
            delivered, self._delivered = self._delivered, []
            await self._loop.execute(Acknowledge(tuple(delivered)))
            for number in delivered:
                del self._under_way[number]
            self._loop.watchers.ring(OUTBOX)


def deliverable(state: State) -> Iterator[Entry]:
    """Yield the entries that may be told now: a job's log is closed when all else of the job was told."""
    for entry in state.outbox.values():
        if entry.errand is not Errand.CLOSE_JOB or state.jobs[entry.ref.job].outbox_open == 1:
            yield entry
