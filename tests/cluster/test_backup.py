"""Journal, catalogue, files and logs of four different moments: together they are a DPU that goes on."""

import asyncio
import hashlib
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from dpu.errors import NotFound, StaleLease
from dpu.status import from_rpc
from dpu_api.v1 import archive_pb2, archive_pb2_grpc, job_pb2, scheduler_pb2
from dpud.archive.records import Attempt
from fakes_archive import a_product, announced, files_of
from fakes_house import Callers, ending, fails, specs, submission, until_ended
from recorded.wire import house

PATIENCE_S = 60.0


class Desk:
    """A person and a worker of one house."""

    def __init__(self, callers):
        self.callers = callers
        self.person = callers.person()
        self.archive = archive_pb2_grpc.ArchiveServiceStub(callers._open("worker", "kids"))
        self.worker = None

    async def submit(self):
        return (await self.person.SubmitJob(submission(tasks=specs("ccd50")))).job.id

    async def lease(self, job):
        """Return the next lease, which is of that job."""
        async with asyncio.timeout(PATIENCE_S):
            while not (leases := (await self.worker.work(room=1)).leases):
                pass
        assert leases[0].ref.job_id == job
        return leases[0]

    async def stage(self, lease):
        ref = lease.ref
        content = f"pixels of job {ref.job_id}".encode()
        record = a_product(
            Attempt(ref.job_id, ref.task, ref.attempt),
            project="kids",
            digest=hashlib.sha256(content).hexdigest(),
            size=len(content),
            inputs=(),
        )
        await self.archive.StageProduct(iter([announced(record), archive_pb2.StageProductRequest(chunk=content)]))

    async def end(self, lease, failure=None):
        await self.worker.work(ended=[ending(lease, failure, products=0 if failure else 1)])
        return await self.ended(lease.ref.job_id)

    async def ended(self, job):
        async with asyncio.timeout(PATIENCE_S):
            return await until_ended(self.person, job)

    async def run(self):
        """Run a whole job; return its identifier."""
        job = await self.submit()
        lease = await self.lease(job)
        await self.stage(lease)
        assert (await self.end(lease)).state == job_pb2.JOB_STATE_FINISHED
        return job

    async def products(self):
        """Return the contents of all published products by their jobs."""
        found = {}
        for frame in (await self.archive.ListFrames(archive_pb2.ListFramesRequest(frame_class="BiasFrame"))).frames:
            content = b""
            async for answer in self.archive.FetchFrame(archive_pb2.FetchFrameRequest(id=frame.id)):
                content += answer.chunk
            assert hashlib.sha256(content).hexdigest() == frame.digest
            found[frame.ref.job_id] = content.decode()
        return found


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="dpu"))
    yield path
    shutil.rmtree(path)


def backed_up(source, target):
    """Copy a database that is in use, as docs/how-to/backup.md says."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(source)) as used, closing(sqlite3.connect(target)) as copy:
        used.backup(copy)


async def lived_through(before, backup):
    """Run four jobs, and back up a part after each; return their identifiers."""
    async with house(before) as address, Callers(address) as callers:
        desk = Desk(callers)
        desk.worker = await callers.worker()
        known = await desk.run()
        running = await desk.submit()
        lease = await desk.lease(running)
        backed_up(before / "scheduler" / "journal.sqlite", backup / "scheduler" / "journal.sqlite")
        await desk.stage(lease)
        await desk.end(lease)
        catalogued = await desk.run()
        backed_up(before / "archive" / "catalogue.sqlite", backup / "archive" / "catalogue.sqlite")
        shutil.copy(before / "archive" / "catalogue.mark", backup / "archive")
        filed = await desk.run()
        shutil.copytree(before / "archive" / "files", backup / "archive" / "files")
        shutil.copytree(before / "logs", backup / "logs")
    return known, running, catalogued, filed


async def test_parts_of_a_backup_from_different_moments_come_back_consistent(folder):
    before, after = folder / "before", folder / "after"
    before.mkdir()
    known, running, catalogued, filed = await lived_through(before, after)
    async with house(after) as address, Callers(address) as callers:
        desk = Desk(callers)
        desk.worker = await callers.worker()
        # What the catalogue knows is there, whole; what only the files knew is gone with them.
        assert await desk.products() == {job: f"pixels of job {job}" for job in (known, running, catalogued)}
        assert len(files_of(after / "archive")) == 3
        # The journal's jobs go on. One that ended in the time that is lost cannot make its product a second time.
        assert (await desk.ended(known)).state == job_pb2.JOB_STATE_FINISHED
        await fails(desk.person.GetJob(scheduler_pb2.GetJobRequest(job_id=catalogued)), NotFound, "no job")
        again = await desk.lease(running)
        assert again.ref.attempt == 2
        with pytest.raises(grpc.RpcError) as refused:
            await desk.stage(again)
        refusal = from_rpc(refused.value)
        assert isinstance(refusal, StaleLease)
        assert "attempt 1 is published already" in refusal.message
        failure = job_pb2.Failure(category=job_pb2.FAILURE_CATEGORY_RECIPE, message=refusal.message)
        assert (await desk.end(again, failure)).state == job_pb2.JOB_STATE_FAILED
        # No identifier is given twice: the logs know the highest.
        assert await desk.run() == filed + 1
        assert set(await desk.products()) == {known, running, catalogued, filed + 1}
