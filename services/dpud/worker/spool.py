"""Log lines on their way: a queue with a bound, in a file that outlives the worker, its oldest part in memory too."""

from __future__ import annotations

import asyncio
import os
import struct
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import structlog

from dpu_api.v1.logs_pb2 import AppendRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

log = structlog.get_logger(__name__)

_HEADER = struct.Struct("!I")
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch in memory."""

    request: AppendRequest
    size: int
    #: Whether it is in the file too.
    filed: bool = True


class Spool:
    """Batches in the order in which they came; one leaves only when it is acknowledged.

    All of them are in a file, so that they outlive this process; the oldest are in memory too, to be sent.
    """

    def __init__(self, file: Path, *, memory: int = 8 * MIB, disk: int = 256 * MIB) -> None:
        self._memory_bound = memory
        self._disk_bound = disk
        self._batches: deque[_Batch] = deque()
        self._memory = 0
        # How many of the batches, from the oldest on, were given out.
        self._out = 0
        file.touch(mode=0o600)
        self._file = file.open("r+b", buffering=0)
        # Up to here the file's batches came to memory. What a killed worker left is sent too: lines are keyed, so
        # those that had arrived are stored once.
        self._read = 0
        self._written = self._whole()
        self._cut()
        self._changed = asyncio.Event()
        self._recall()

    async def put(self, batch: AppendRequest) -> None:
        """Take a batch; waits while the file is full, and where it cannot be written while memory is."""
        data = batch.SerializeToString()
        await self._until(lambda: self._written < self._disk_bound)
        filed = self._filed(data)
        if not filed:
            await self._until(lambda: not self._behind and self._memory < self._memory_bound)
            self._keep(_Batch(batch, len(data), filed=False))
        elif self._behind == _HEADER.size + len(data) and self._memory < self._memory_bound:
            self._keep(_Batch(batch, len(data)))
            self._read = self._written
        self._changed.set()

    async def _until(self, met: Callable[[], bool]) -> None:
        """Wait until a condition of the batches holds."""
        while not met():
            self._changed.clear()
            await self._changed.wait()

    async def next(self, window: int) -> AppendRequest:
        """Return the oldest batch that was not given out yet; waits while `window` of them are out."""
        await self._until(lambda: self._out < min(window, len(self._batches)))
        self._out += 1
        return self._batches[self._out - 1].request

    def more(self, window: int, size: int) -> list[AppendRequest]:
        """Return the batches that may go with the one that was given out last: no more than about `size` bytes."""
        found: list[AppendRequest] = []
        for each in islice(self._batches, self._out, max(window, self._out)):
            size -= each.size
            if size < 0:
                break
            found.append(each.request)
        self._out += len(found)
        return found

    def rewind(self) -> None:
        """Begin anew with the oldest batch that is not acknowledged."""
        self._out = 0

    def acknowledge(self, key: tuple[int, int, int], below: int) -> None:
        """Let go of the batches that are out, of one attempt, whose lines are all below a number."""
        self.acknowledge_all({key: below})

    def acknowledge_all(self, below: Mapping[tuple[int, int, int], int]) -> None:
        """Let go of the batches that are out, whose lines are all below their attempt's number."""
        out = [self._batches.popleft() for _ in range(self._out)]
        kept = [each for each in out if not _covered(each.request, below)]
        self._batches.extendleft(reversed(kept))
        self._out = len(kept)
        self._memory -= sum(each.size for each in out) - sum(each.size for each in kept)
        self._recall()
        self._changed.set()

    def drop_oldest(self) -> AppendRequest:
        """Let go of the oldest batch, which will never be taken, and return it."""
        dropped = self._batches.popleft()
        self._memory -= dropped.size
        self._out = max(0, self._out - 1)
        self._recall()
        self._changed.set()
        return dropped.request

    async def empty(self) -> None:
        """Return when everything is acknowledged."""
        await self._until(lambda: not self._batches and not self._behind)

    def close(self) -> None:
        """Close the file; what is in memory alone still goes into it, for the next worker in this folder."""
        for each in self._batches:
            if not each.filed:
                self._filed(each.request.SerializeToString())
        self._batches.clear()
        self._file.close()

    @property
    def size(self) -> int:
        """How many bytes wait."""
        return self._memory + self._behind

    @property
    def oldest_us(self) -> int | None:
        """When the oldest of the lines that wait was printed, in microseconds since 1970; None where none waits."""
        times = self._batches[0].request.batch.time_us if self._batches else ()
        return times[0] if times else None

    @property
    def _behind(self) -> int:
        """How many bytes of the file have not come to memory."""
        return self._written - self._read

    def _keep(self, batch: _Batch) -> None:
        self._batches.append(batch)
        self._memory += batch.size

    def _filed(self, data: bytes) -> bool:
        """Write a batch behind the others; return whether the disk had room for it."""
        record = _HEADER.pack(len(data)) + data
        try:
            whole = os.pwrite(self._file.fileno(), record, self._written) == len(record)
        except OSError as error:
            log.warning("log spool cannot be written", reason=error.strerror)
            whole = False
        if whole:
            self._written += len(record)
        else:
            self._cut()
        return whole

    def _cut(self) -> None:
        """Take away what was written of a half one: behind a shorter one, its rest would be read as a batch."""
        with suppress(OSError):
            self._file.truncate(self._written)

    def _recall(self) -> None:
        """Bring batches from the file while there is room in memory; where all are acknowledged, empty it."""
        while self._behind and self._memory < self._memory_bound:
            self._file.seek(self._read)
            size = _HEADER.unpack(self._file.read(_HEADER.size))[0]
            self._keep(_Batch(AppendRequest.FromString(self._file.read(size)), size))
            self._read += _HEADER.size + size
        if self._written and not self._behind and not any(each.filed for each in self._batches):
            self._file.truncate(0)
            self._read = self._written = 0

    def _whole(self) -> int:
        """Return where the last whole batch in the file ends; a worker that was killed may have left a half one."""
        self._file.seek(0, 2)
        length = self._file.tell()
        end = 0
        while end + _HEADER.size <= length:
            self._file.seek(end)
            size = _HEADER.unpack(self._file.read(_HEADER.size))[0]
            if end + _HEADER.size + size > length:
                break
            end += _HEADER.size + size
        return end


def _covered(request: AppendRequest, below: Mapping[tuple[int, int, int], int]) -> bool:
    batch = request.batch
    known = below.get((batch.ref.job_id, batch.ref.task, batch.ref.attempt))
    return known is not None and batch.first + len(batch.texts) <= known
