"""Logs in a bucket of any S3: an object of packed records a job and commit, joined to large ones, found by an index."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from uuid import uuid4

import structlog
from obstore.store import S3Store

from dpu.errors import DpuError, InternalError
from dpud.logs.bucket import Bucket, ObjectSource
from dpud.logs.index import Index, Row
from dpud.logs.pack import Pack, PackWriter, mergeable
from dpud.logs.shelf import Shelf
from dpud.logs.stretch import everything, look, pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from obstore.store import RetryConfig

    from dpud.logs.record import Record
    from dpud.logs.store import Held, Placed

T = TypeVar("T")
log = structlog.get_logger(__name__)

#: Objects are joined up to this size.
OBJECT_BYTES = 16 * 1024 * 1024
#: So many objects, each of one commit, are joined while the job still runs.
MANY = 64
_ALL = 10**8
#: Workers keep their lines and try again: what does not work is said soon.
_RETRIES: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}
#: What one commit writes is smaller, and what was joined is larger.
SMALL = 256 * 1024


class Item(NamedTuple):
    """An object and its place in the index."""

    row: Row
    pack: Pack


class S3LogStore:
    """Keeps records in `bucket`, which others may use too, below `jobs/`. `clock` gives seconds since 1970."""

    def __init__(
        self, bucket: Bucket, index: Index, clock: Callable[[], float], *, object_bytes: int = OBJECT_BYTES
    ) -> None:
        self._bucket = bucket
        self._index = index
        self._clock = clock
        self._object_bytes = object_bytes
        self._shelf = Shelf(self._load, self._discard)
        # Objects are joined, and jobs removed, one after the other.
        self._changing = asyncio.Lock()
        self._joining: dict[int, asyncio.Task[None]] = {}
        self._threads = ThreadPoolExecutor(8, "log-bucket")
        # The index is for one thread at a time.
        self._indexer = ThreadPoolExecutor(1, "log-index")

    def close(self) -> None:
        """Wait for what is being written, and let go of threads and database."""
        for task in self._joining.values():
            task.cancel()
        for pool in (self._threads, self._indexer):
            pool.shutdown()
        self._index.close()

    async def append(self, groups: Mapping[int, Sequence[Record]]) -> None:
        """Keep records by job: an object for each, then all of them in the index at once.

        Raises Unreachable, and then nobody finds what was put. Raises Superseded.
        """
        self._shelf.busy |= groups.keys()
        try:
            known = {job_id: await self._shelf.pieces(job_id) for job_id in groups}
            puts = [self._in_thread(self._put, _after(job_id, known[job_id]), groups[job_id]) for job_id in groups]
            put = await asyncio.gather(*puts)
            await self._in_index(self._index.add, [item.row for item in put], self._clock())
            for item in put:
                known[item.row.job].append(item)
        except DpuError:
            # Whether the index took them is not known for certain: it is asked anew.
            for job_id in groups:
                self._shelf.forget(job_id)
            raise
        finally:
            self._shelf.busy -= groups.keys()
        for job_id, items in known.items():
            self._join_later(job_id, items)

    async def read(self, job_id: int, offset: int, budget: int) -> list[Placed]:
        """Return what readers see from `offset` on."""
        async with self._shelf.using(job_id) as items:
            for item in items:
                if item.pack.end > offset:
                    try:
                        return await self._in_thread(look, item.pack, offset, budget)
                    except FileNotFoundError:
                        # The job was removed under the reader's eyes.
                        return []
        return []

    async def replay(self, job_id: int, apply: Callable[[Record], None]) -> None:
        """Call `apply` with every record of the job."""
        async with self._shelf.using(job_id) as items:
            for item in list(items):
                found = pieces(everything(item.pack))
                while (piece := await self._in_thread(next, found, None)) is not None:
                    for record in piece:
                        apply(record)

    async def jobs(self) -> Mapping[int, Held]:
        """Return the jobs that are here."""
        return await self._in_index(self._index.jobs)

    async def seal(self, job_id: int, state: int) -> None:
        """Join the objects of a job, and delete those that a crash left beside the index."""
        async with self._changing, self._shelf.using(job_id) as items:
            if job_id in self._shelf.busy or not items:
                return
            before = [item.row for item in items]
            # From the last to the first, so that places in the list stay what they are.
            for run in list(mergeable([item.row.size for item in items], self._object_bytes))[::-1]:
                await self._join(job_id, items[run.start : run.stop])
            await self._in_index(self._index.mark_ended, job_id, state)
            # What comes meanwhile has higher numbers; what was joined goes when nobody reads it any more.
            named = [*before, *(item.row for item in items)]
            await self._in_thread(self._sweep, job_id, named, before[-1].number)

    async def remove(self, job_id: int) -> None:
        """Forget a job: first in the index, so that no half of it is ever found."""
        async with self._changing:
            self._shelf.forget(job_id)
            await self._in_index(self._index.forget, job_id)
            await self._in_thread(self._sweep, job_id, [], _ALL)

    def _join_later(self, job_id: int, items: list[Item]) -> None:
        """Join the objects of the last commits where they have become many."""
        run = items[-MANY:]
        if len(run) == MANY and job_id not in self._joining and all(item.row.size < SMALL for item in run):

            async def join_in_turn() -> None:
                async with self._changing:
                    if self._shelf.holds(job_id, run[0]):
                        await self._join(job_id, run)

            task = self._joining[job_id] = asyncio.create_task(join_in_turn())
            task.add_done_callback(lambda _: self._joining.pop(job_id, None))

    async def _join(self, job_id: int, run: list[Item]) -> None:
        """Make one object of several that follow each other; they are left as they are where that fails."""
        async with self._shelf.using(job_id):
            try:
                records = (record for item in run for record, _ in everything(item.pack))
                joined = await self._in_thread(self._put, run[0].row, records)
                await self._in_index(self._index.replace, [item.row for item in run], joined.row)
            except (DpuError, FileNotFoundError) as error:
                log.warning("objects of a log could not be joined and stay as they are", job=job_id, error=str(error))
                return
            self._shelf.replace(job_id, run, joined)

    def _put(self, place: Row, records: Iterable[Record]) -> Item:
        """Store records as one object in a place of the index."""
        data = BytesIO()
        writer = PackWriter(data.write, place.start)
        for record in records:
            writer.add(record)
        writer.close()
        # A name of its own: one that a lost answer, or a crash, left behind is nobody's.
        key = f"{_folder(place.job)}{place.number:08d}-{uuid4().hex}.pack"
        self._bucket.put(key, data.getvalue())
        size = data.tell()
        pack = Pack.open(ObjectSource(self._bucket, key, size))
        return Item(Row(place.job, place.number, place.start, key, size), pack)

    def _sweep(self, job_id: int, named: Iterable[Row], highest: int) -> None:
        """Delete the objects of a job up to a number that are not named: a crash or a lost answer left them."""
        kept, folder = {row.key for row in named}, _folder(job_id)
        found = [key for key in self._bucket.keys(folder) if key not in kept]
        self._bucket.delete([key for key in found if int(key.removeprefix(folder)[:8]) <= highest])

    async def _discard(self, items: list[Item]) -> None:
        try:
            await self._in_thread(self._bucket.delete, [item.row.key for item in items])
        except DpuError as error:
            log.warning("objects that are not needed any more stay until the job is sealed", error=error.message)

    async def _load(self, job_id: int) -> list[Item]:
        """Return the objects of a job. Raises InternalError where some are missing."""
        items: list[Item] = []
        for row in await self._in_index(self._index.objects, job_id):
            end = items[-1].pack.end if items else 0
            if row.start != end:
                raise InternalError(f"{row.key} does not go on where the object before it ends: restore the index")
            items.append(Item(row, await self._in_thread(self._open, row)))
        return items

    def _open(self, row: Row) -> Pack:
        try:
            return Pack.open(ObjectSource(self._bucket, row.key, row.size))
        except FileNotFoundError as error:
            raise InternalError(f"{row.key} is not in the bucket any more: restore it from a backup") from error

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def _in_index(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._indexer, work, *arguments)


def open_bucket(url: str, index: Index) -> S3LogStore:
    """Return the store in a bucket, 's3://name/prefix', and become the index's one writer.

    Where the S3 is, and how to log in there, is told by AWS_* in the environment, as everywhere.
    Raises Unreachable where bucket or index are.
    """
    index.open()
    bucket = Bucket(S3Store.from_url(url, retry_config=_RETRIES))
    return S3LogStore(bucket, index, time.time)


def _folder(job_id: int) -> str:
    return f"jobs/{job_id:012d}/"


def _after(job_id: int, items: list[Item]) -> Row:
    """Return the place behind all objects of a job."""
    if not items:
        return Row(job_id, 0, 0, "", 0)
    return Row(job_id, items[-1].row.number + 1, items[-1].pack.end, "", 0)
