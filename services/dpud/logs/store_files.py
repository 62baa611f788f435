"""Logs in a folder: a folder a job, segments of records in it, fsync before anything is acknowledged."""

from __future__ import annotations

import asyncio
import errno
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import structlog

from dpu.errors import InternalError, StorageFull
from dpud.logs.record import weight
from dpud.logs.segment import Segment, frame, frames, scan, sync_folder, write
from dpud.logs.store import Placed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from dpud.logs.record import Record

T = TypeVar("T")
log = structlog.get_logger(__name__)

#: A segment that is larger is not appended to.
SEGMENT_BYTES = 64 * 1024 * 1024
#: Jobs whose index stays in memory.
_KEPT = 4096
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NAME = re.compile(r"(\d{6})-(\d{20})\.log")


@dataclass(slots=True)
class _Write:
    """Records on their way into the last segment of a job."""

    job_id: int
    segments: list[Segment]
    segment: Segment
    frames: list[tuple[Record, bytes]] = field(default_factory=list)

    def run(self) -> None:
        folder = self.segment.path.parent
        if not folder.exists():
            folder.mkdir(mode=0o700)
            sync_folder(folder.parent)
        write(self.segment.path, self.segment.size, b"".join(data for _, data in self.frames))

    def undo(self) -> None:
        """Take back what was written; where even that fails, the file is left behind as it is."""
        try:
            with self.segment.path.open("r+b") as file:
                file.truncate(self.segment.size)
        except FileNotFoundError:
            pass
        except OSError:
            self.segment.torn = True

    def done(self) -> None:
        if self.segment not in self.segments:
            self.segments.append(self.segment)
        for record, data in self.frames:
            self.segment.grow(record, len(data))


class FileLogStore:
    """Keeps records under `folder`, which it alone may use. Its index lives on the loop, its files in threads."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._jobs: dict[int, list[Segment]] = {}
        self._busy: set[int] = set()
        self._writer = ThreadPoolExecutor(1, "log-writer")
        self._readers = ThreadPoolExecutor(4, "log-reader")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in folder.glob("*.removed"):
            shutil.rmtree(left)

    def close(self) -> None:
        """Wait for what is being written, and let go of the threads."""
        self._writer.shutdown()
        self._readers.shutdown()

    async def append(self, groups: Mapping[int, Sequence[Record]]) -> None:
        """Keep records by job: one write and one fsync for each job."""
        self._busy |= groups.keys()
        try:
            writes = [await self._plan(job_id, records) for job_id, records in groups.items()]
            await asyncio.get_running_loop().run_in_executor(self._writer, _write_all, writes)
            for each in writes:
                each.done()
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFull(
                    f"the disk of the logs is full ({error.strerror}): keep the lines and try again"
                ) from error
            raise InternalError(f"the logs cannot be written: {error.strerror or error}") from error
        finally:
            self._busy -= groups.keys()

    async def read(self, job_id: int, offset: int, budget: int) -> list[Placed]:
        """Return what readers see from `offset` on."""
        for segment in await self._segments(job_id):
            if segment.end > offset:
                begin, at = segment.place(max(offset, segment.start))
                return await self._in_thread(_read, segment.path, (begin, at, segment.size), offset, budget)
        return []

    async def replay(self, job_id: int, apply: Callable[[Record], None]) -> None:
        """Call `apply` with every record of the job."""
        known = self._jobs.get(job_id)
        for record in await self._in_thread(_reread, known) if known is not None else await self._scanned(job_id):
            apply(record)

    async def ages(self) -> Mapping[int, float]:
        """Return when each job was last appended to."""
        return await self._in_thread(_ages, self._folder)

    async def remove(self, job_id: int) -> None:
        """Forget a job: its folder gets another name first, so that no half of it is ever found."""
        self._jobs.pop(job_id, None)
        await self._in_thread(_remove, self._path(job_id))

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, work, *arguments)

    def _path(self, job_id: int) -> Path:
        return self._folder / f"{job_id:012d}"

    async def _plan(self, job_id: int, records: Sequence[Record]) -> _Write:
        segments = await self._segments(job_id)
        framed = [(record, frame(record)) for record in records]
        if segments and not segments[-1].torn and segments[-1].size < self._segment_bytes:
            return _Write(job_id, segments, segments[-1], framed)
        # A new file, also behind a torn one: what was cut short stays on the disk as it was found.
        end = segments[-1].end if segments else 0
        number = int(segments[-1].path.name.partition("-")[0]) + 1 if segments else 0
        path = self._path(job_id) / f"{number:06d}-{end:020d}.log"
        return _Write(job_id, segments, Segment(path, end, end), framed)

    async def _segments(self, job_id: int) -> list[Segment]:
        if job_id not in self._jobs:
            await self._scanned(job_id)
        return self._jobs[job_id]

    async def _scanned(self, job_id: int) -> list[Record]:
        segments, records = await self._in_thread(_scan_all, self._path(job_id))
        if job_id not in self._jobs:
            self._jobs[job_id] = segments
            free = [each for each in self._jobs if each not in self._busy and each != job_id]
            for each in free[: max(0, len(self._jobs) - _KEPT)]:
                del self._jobs[each]
        return records


def _write_all(writes: list[_Write]) -> None:
    """Write everything, or take all of it back."""
    try:
        for each in writes:
            each.run()
    except OSError:
        for each in writes:
            each.undo()
        raise


def _scan_all(folder: Path) -> tuple[list[Segment], list[Record]]:
    """Return the segments of a job and its records. Raises InternalError where there is a hole between two."""
    segments: list[Segment] = []
    records: list[Record] = []
    for path in sorted(folder.glob("*.log")):
        match = _NAME.fullmatch(path.name)
        start = int(match.group(2)) if match else -1
        if start != (segments[-1].end if segments else 0):
            raise InternalError(f"{path} does not go on where the segment before it ends: restore it from a backup")
        segment, found = scan(path, start)
        if segment.torn:
            log.warning("a write that was cut short is passed over", path=str(path), byte=segment.size)
        segments.append(segment)
        records += found
    return segments, records


def _reread(segments: list[Segment]) -> list[Record]:
    return [record for each in segments for record, _ in frames(each.path, 0, each.size)]


def _read(path: Path, bounds: tuple[int, int, int], offset: int, budget: int) -> list[Placed]:
    """Return the records that hold `offset` and follow it; `bounds` are where to begin and the last byte."""
    begin, at, stop = bounds
    found: list[Placed] = []
    for record, size in frames(path, at, stop):
        if weight(record) and begin + weight(record) > offset:
            found.append(Placed(begin, record))
            budget -= size
        begin += weight(record)
        if budget <= 0:
            break
    return found


def _ages(folder: Path) -> dict[int, float]:
    jobs = [path for path in folder.iterdir() if path.name.isdigit()]
    return {int(path.name): max((each.stat().st_mtime for each in path.iterdir()), default=0.0) for path in jobs}


def _remove(path: Path) -> None:
    if path.exists():
        gone = path.with_suffix(".removed")
        path.rename(gone)
        sync_folder(path.parent)
        shutil.rmtree(gone)
