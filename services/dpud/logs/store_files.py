"""Logs in a folder: a folder a job, segments of records in it, fsync before anything is acknowledged."""

from __future__ import annotations

import asyncio
import errno
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog

from dpu.errors import InternalError, StorageFull
from dpud.logs.ahead import Ahead, Piece
from dpud.logs.folder import Named, ages, found, join, mark_ended
from dpud.logs.pack import mergeable
from dpud.logs.segment import Segment, frame, sync_folder, write
from dpud.logs.shelf import Shelf
from dpud.logs.stretch import everything, look, pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from dpud.logs.record import Record
    from dpud.logs.store import Held, Placed

T = TypeVar("T")
log = structlog.get_logger(__name__)

#: A segment that is larger is not appended to, and is sealed.
SEGMENT_BYTES = 64 * 1024 * 1024
#: So much is written ahead; more goes to its files at once, and not twice.
SMALL_BYTES = 64 * 1024
#: A disk that takes longer for a sync is not waited for by everybody.
QUICK_S = 0.003
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(slots=True)
class _Write:
    """Records on their way into the last segment of a job."""

    job_id: int
    files: list[Named]
    segment: Segment
    frames: list[tuple[Record, bytes]] = field(default_factory=list)

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data in self.frames)

    def run(self) -> None:
        folder = self.segment.path.parent
        if not folder.exists():
            folder.mkdir(mode=0o700)
            sync_folder(folder.parent)
        write(self.segment.path, self.segment.size, self.data)

    def undo(self) -> None:
        """Take back what was written; where even that fails, the file is left behind as it is."""
        try:
            with self.segment.path.open("r+b") as file:
                file.truncate(self.segment.size)
        except FileNotFoundError:
            pass
        except OSError:
            self.segment.closed = True

    def done(self) -> None:
        if not self.files or self.files[-1].stretch is not self.segment:
            self.files.append(Named(self.segment.path, self.segment))
        for record, data in self.frames:
            self.segment.grow(record, len(data))


class FileLogStore:
    """Keeps records under `folder`, which it alone may use. Its index lives on the loop, its files in threads."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._shelf = Shelf(lambda job_id: self._load(job_id, _pass_by), self._discard)
        # Files are joined, and jobs removed, one after the other.
        self._changing = asyncio.Lock()
        self._sealing: set[asyncio.Task[None]] = set()
        self._writer = ThreadPoolExecutor(1, "log-writer")
        self._readers = ThreadPoolExecutor(4, "log-reader")
        # Sealing takes its time: neither readers nor the writer wait for it.
        self._sealer = ThreadPoolExecutor(1, "log-sealer")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._ahead = Ahead(folder)
        self._settling: asyncio.Task[None] | None = None
        #: How long the last sync took.
        self._sync_s = 0.0
        for left in folder.glob("*.removed"):
            shutil.rmtree(left)

    def close(self) -> None:
        """Wait for what is being written, and let go of the threads."""
        for task in self._sealing:
            task.cancel()
        for pool in (self._writer, self._readers, self._sealer):
            pool.shutdown()
        self._ahead.close()

    async def append(self, groups: Mapping[int, Sequence[Record]]) -> None:
        """Keep records by job: few of them by one sync for all jobs, many by one for each job."""
        self._shelf.busy |= groups.keys()
        try:
            writes = [await self._plan(job_id, records) for job_id, records in groups.items()]
            await self._write(writes)
            for each in writes:
                each.done()
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFull(
                    f"the disk of the logs is full ({error.strerror}): keep the lines and try again"
                ) from error
            raise InternalError(f"the logs cannot be written: {error.strerror or error}") from error
        finally:
            self._shelf.busy -= groups.keys()
        for each in writes:
            if each.segment.size >= self._segment_bytes:
                self._seal_later(each.job_id, each.files[-1:])
        if self._ahead.is_full and self._settling is None:
            self._settling = asyncio.create_task(self._settle())

    async def _write(self, writes: list[_Write]) -> None:
        is_small = sum(len(data) for each in writes for _, data in each.frames) <= SMALL_BYTES
        work = partial(_keep_all, self._ahead, writes) if is_small else partial(_write_all, writes)
        if is_small and self._sync_s < QUICK_S:
            # Two switches between threads take longer than the sync of a quick disk.
            self._sync_s = work()
        else:
            self._sync_s = await asyncio.get_running_loop().run_in_executor(self._writer, work)

    async def _settle(self) -> None:
        """Bring to the disk what was written ahead so far."""
        self._ahead.turn()
        try:
            await asyncio.get_running_loop().run_in_executor(self._sealer, self._ahead.settle)
        except OSError as error:
            log.warning("logs that were written ahead stay so", error=str(error))
        finally:
            self._settling = None

    async def _settled(self) -> None:
        """Return when nothing that was written until now would be written again after a crash."""
        if self._settling is not None:
            await asyncio.wait({self._settling})
        self._settling = asyncio.create_task(self._settle())
        await self._settling

    async def read(self, job_id: int, offset: int, budget: int) -> list[Placed]:
        """Return what readers see from `offset` on."""
        async with self._shelf.using(job_id) as files:
            for each in files:
                if each.stretch.end > offset:
                    try:
                        return await self._in_thread(look, each.stretch, offset, budget)
                    except FileNotFoundError:
                        # The job was removed under the reader's eyes.
                        return []
        return []

    async def replay(self, job_id: int, apply: Callable[[Record], None]) -> None:
        """Call `apply` with every record of the job."""
        if job_id not in self._shelf:
            self._shelf.put(job_id, await self._load(job_id, apply))
            return
        async with self._shelf.using(job_id) as files:
            for each in list(files):
                await self._feed(pieces(everything(each.stretch)), apply)

    async def jobs(self) -> Mapping[int, Held]:
        """Return the jobs that are here."""
        return await self._in_thread(ages, self._folder)

    async def seal(self, job_id: int, state: int) -> None:
        """Compress and join what is left of a job; where it is being written to, nothing happens."""
        async with self._changing, self._shelf.using(job_id) as files:
            if job_id in self._shelf.busy:
                return
            # From the last to the first, so that places in the list stay what they are.
            for run in reversed(list(self._runs(files))):
                await self._join(job_id, files[run.start : run.stop])
            await self._in_thread(mark_ended, self._path(job_id), state)

    async def remove(self, job_id: int) -> None:
        """Forget a job: its folder gets another name first, so that no half of it is ever found."""
        async with self._changing:
            await self._settled()
            self._shelf.forget(job_id)
            await self._in_thread(_remove, self._path(job_id))

    def _runs(self, files: list[Named]) -> Iterator[range]:
        """Yield the neighbours that become one pack, and the segments that become one of their own."""
        joined = list(mergeable([each.stretch.size for each in files], self._segment_bytes))
        alone = set(range(len(files))) - {number for run in joined for number in run}
        single = (range(at, at + 1) for at in alone if isinstance(files[at].stretch, Segment))
        yield from sorted([*joined, *single], key=lambda run: run.start)

    def _seal_later(self, job_id: int, run: list[Named]) -> None:
        async def join_in_turn() -> None:
            async with self._changing:
                if self._shelf.holds(job_id, run[0]):
                    await self._join(job_id, run)

        task = asyncio.create_task(join_in_turn())
        self._sealing.add(task)
        task.add_done_callback(self._sealing.discard)

    async def _join(self, job_id: int, run: list[Named]) -> None:
        """Make one pack of files that follow each other; they are left as they are where that fails."""
        for each in run:
            if isinstance(each.stretch, Segment):
                each.stretch.closed = True
        async with self._shelf.using(job_id):
            try:
                joined = await asyncio.get_running_loop().run_in_executor(self._sealer, join, run)
            except (OSError, InternalError) as error:
                log.warning("a log could not be compressed and stays as it is", job=job_id, error=str(error))
                return
            self._shelf.replace(job_id, run, joined)

    async def _discard(self, files: list[Named]) -> None:
        for each in files:
            await self._in_thread(each.path.unlink, True)

    async def _load(self, job_id: int, apply: Callable[[Record], None]) -> list[Named]:
        """Return the files of a job, and call `apply` with all records. Raises InternalError where some are missing."""
        path = self._path(job_id)
        if not path.exists():  # a look that costs less than asking a thread for it
            return []
        files = await self._in_thread(found, path)
        end = 0
        for path, stretch in files:
            if stretch.start != end:
                raise InternalError(f"{path} does not go on where the file before it ends: restore it from a backup")
            if isinstance(stretch, Segment):
                await self._feed(pieces(stretch.scan()), apply)
                if stretch.closed:
                    log.warning("a write that was cut short is passed over", path=str(path), byte=stretch.size)
            elif apply is not _pass_by:
                await self._feed(pieces(everything(stretch)), apply)
            end = stretch.end
        return files

    async def _feed(self, found: Iterator[list[Record]], apply: Callable[[Record], None]) -> None:
        """Read piece after piece in a thread, however many there are, and apply them here."""
        while (piece := await self._in_thread(next, found, None)) is not None:
            for record in piece:
                apply(record)

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, work, *arguments)

    def _path(self, job_id: int) -> Path:
        return self._folder / f"{job_id:012d}"

    async def _plan(self, job_id: int, records: Sequence[Record]) -> _Write:
        files = await self._shelf.pieces(job_id)
        framed = [(record, frame(record)) for record in records]
        last = files[-1].stretch if files else None
        if isinstance(last, Segment) and not last.closed and last.size < self._segment_bytes:
            return _Write(job_id, files, last, framed)
        # A new file, also behind one that was cut short: what is there stays on the disk as it was found.
        end = last.end if last is not None else 0
        number = files[-1].last + 1 if files else 0
        return _Write(job_id, files, Segment(Named.open_path(self._path(job_id), number, end), end, end), framed)


def _pass_by(_record: Record) -> None:
    """Do nothing with a record that only has to be found."""


def _write_all(writes: list[_Write]) -> float:
    """Write everything, or take all of it back; return how long one sync took."""
    begun = time.monotonic()
    with _undone(writes):
        for each in writes:
            each.run()
    return (time.monotonic() - begun) / len(writes)


def _keep_all(ahead: Ahead, writes: list[_Write]) -> float:
    """Write everything ahead, or take all of it back; return how long it took."""
    begun = time.monotonic()
    with _undone(writes):
        ahead.keep([Piece(each.segment.path, each.segment.size, each.data) for each in writes])
    return time.monotonic() - begun


@contextmanager
def _undone(writes: list[_Write]) -> Iterator[None]:
    """Take all of it back where it fails within the block."""
    try:
        yield
    except OSError:
        for each in writes:
            each.undo()
        raise


def _remove(path: Path) -> None:
    if path.exists():
        gone = path.with_suffix(".removed")
        path.rename(gone)
        sync_folder(path.parent)
        shutil.rmtree(gone)
