"""Everybody who talks to one archive over its socket, for tests of the service."""

import hashlib
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from grpc import RpcError

from dpu.channel import CHUNK
from dpu.status import from_rpc
from dpu_api.v1 import archive_pb2 as pb
from dpu_api.v1.archive_pb2_grpc import ArchiveServiceStub
from dpu_api.v1.job_pb2 import TaskRef
from fakes_archive import FIRST, a_product, an_archive, announced


class Desk:
    """Everybody who talks to one archive."""

    def __init__(self, place, stack):
        self._place = place
        self._stack = stack

    async def stub(self, caller, project="KIDS"):
        return ArchiveServiceStub(await self._stack.enter_async_context(self._place.channel(caller, project)))

    async def ingest(self, path, *, name="", chunks=None, caller="anna's", project="KIDS"):
        stub = await self.stub(caller, project)
        return await stub.Ingest(ingesting(name or path.name, path if chunks is None else "", chunks or ()))

    async def select(self, frame_class="RawBiasFrame", caller="anna's", project="KIDS", **fields):
        stub = await self.stub(caller, project)
        request = {"selection": pb.Selection(instrument="WFI")} | fields
        return list((await stub.ListFrames(pb.ListFramesRequest(frame_class=frame_class, **request))).frames)

    async def stage(self, record, number=0, content=b"", **changes):
        stub = await self.stub("worker's")
        return (await stub.StageProduct(staging(record, number, content, **changes))).frame

    async def publish(self, attempt, *, commit=True):
        stub = await self.stub("service's")
        ref = TaskRef(job_id=attempt.job, task=attempt.task, attempt=attempt.attempt)
        return (await stub.Publish(pb.PublishRequest(ref=ref, commit=commit))).products

    async def discard(self, attempt):
        stub = await self.stub("service's")
        ref = TaskRef(job_id=attempt.job, task=attempt.task, attempt=attempt.attempt)
        await stub.Discard(pb.DiscardRequest(ref=ref))


async def ingesting(name, path, chunks):
    yield pb.IngestRequest(file=pb.IngestFile(name=name, path=str(path)))
    for chunk in chunks:
        yield pb.IngestRequest(chunk=chunk)


async def staging(record, number, content, **changes):
    yield announced(record, number, **changes)
    for start in range(0, len(content), CHUNK):
        yield pb.StageProductRequest(chunk=content[start : start + CHUNK])


def product_of(content, attempt=FIRST, **changes):
    return a_product(attempt, digest=hashlib.sha256(content).hexdigest(), size=len(content), **changes)


def values_only(attempt=FIRST, *, user="jdoe", **changes):
    made = a_product(attempt, digest="", size=0, frame_class="ReadNoise", **changes)
    return made.evolve(user=user)


async def refusal(call):
    with pytest.raises(RpcError) as caught:
        await call
    return from_rpc(caught.value)


@asynccontextmanager
async def a_desk(state):
    """Everybody who talks to an archive of their own."""
    async with AsyncExitStack() as stack:
        yield Desk(await stack.enter_async_context(an_archive(state)), stack)
