"""CodeService on the wire."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from dpu.channel import MIB
from dpu.errors import MissingBlobs, NotFound, UsageError
from dpu.tree import check, check_digest, digest_of
from dpu_api.v1 import codeship_pb2, codeship_pb2_grpc
from dpud.codeship.blobs import Packed, arriving, pieces
from dpud.codeship.metrics import CodeMetrics
from dpud.codeship.versions import Versions
from dpud.hosting.caller import Caller, Role, current_caller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from grpc import aio

    from dpu_api.v1.codeship_pb2 import BlobChunk, TreeEntry
    from dpud.codeship.store import CodeStore
    from dpud.codeship.versions import Store

    Thing = TypeVar("Thing")

NAME = "dpu_api.v1.CodeService"

#: So much is unpacked and kept at a time: one commit serves many blobs.
_GROUP_BYTES = 4 * MIB
_GROUP_BLOBS = 256


class CodeServicer(codeship_pb2_grpc.CodeServiceServicer):
    """Messages to the store and back; nothing is believed that was not computed here."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._versions = Versions(store)
        self.metrics = CodeMetrics()

    def add_to(self, server: aio.Server) -> None:
        """Put the service on a server."""
        codeship_pb2_grpc.add_CodeServiceServicer_to_server(self, server)

    async def FindMissing(
        self,
        request: codeship_pb2.FindMissingRequest,
        _context: aio.ServicerContext[codeship_pb2.FindMissingRequest, codeship_pb2.FindMissingResponse],
    ) -> codeship_pb2.FindMissingResponse:
        """Return which blobs the caller's project has not put."""
        _check_asked(request.digests)
        known = await self._store.sizes(current_caller().project, request.digests)
        return codeship_pb2.FindMissingResponse(digests=[each for each in request.digests if each not in known])

    async def UploadBlobs(
        self,
        request_iterator: AsyncIterator[codeship_pb2.UploadBlobsRequest],
        _context: aio.ServicerContext[codeship_pb2.UploadBlobsRequest, codeship_pb2.UploadBlobsResponse],
    ) -> codeship_pb2.UploadBlobsResponse:
        """Keep blobs whose digest and size agree."""
        upload = _Upload(self._store, current_caller().project)
        try:
            async for packed in arriving(_streamed(self.metrics.streamed(request_iterator))):
                await upload.add(packed)
        finally:
            # Those before one that is refused are kept.
            await upload.flush()
        return codeship_pb2.UploadBlobsResponse(blobs=upload.blobs, bytes=upload.bytes)

    async def PutTree(
        self,
        request: codeship_pb2.PutTreeRequest,
        _context: aio.ServicerContext[codeship_pb2.PutTreeRequest, codeship_pb2.PutTreeResponse],
    ) -> codeship_pb2.PutTreeResponse:
        """Check a tree, and give it its name; keep the blobs that came with it."""
        self.metrics.put(request)
        tree, project = request.tree, current_caller().project
        digest = digest_of(tree.entries)
        content = tree.SerializeToString(deterministic=True)
        # What is kept was checked when it came, and keeps its blobs.
        if not await self._is_kept(project, digest, content):
            check(tree.entries)
            came = [packed async for packed in arriving(_each(request.blobs))]
            blobs, fault = await asyncio.to_thread(_verified, came)
            if fault is not None:
                raise fault
            there = await self._store.sizes(project, {entry.digest for entry in tree.entries})
            _check_content(tree.entries, there | {packed.digest: packed.size for packed in blobs})
            await self._store.put_tree(project, digest, content, blobs)
        return codeship_pb2.PutTreeResponse(digest=digest)

    async def _is_kept(self, project: str, digest: str, content: bytes) -> bool:
        try:
            return await self._store.tree(project, digest) == content
        except NotFound:
            return False

    async def GetTree(
        self,
        request: codeship_pb2.GetTreeRequest,
        _context: aio.ServicerContext[codeship_pb2.GetTreeRequest, codeship_pb2.GetTreeResponse],
    ) -> codeship_pb2.GetTreeResponse:
        """Return the entries of a tree."""
        _check_asked([request.digest])
        content = await _as(current_caller(), self._store.tree, request.digest)
        return codeship_pb2.GetTreeResponse(tree=codeship_pb2.Tree.FromString(content))

    async def DownloadBlobs(
        self,
        request: codeship_pb2.DownloadBlobsRequest,
        _context: aio.ServicerContext[codeship_pb2.DownloadBlobsRequest, codeship_pb2.DownloadBlobsResponse],
    ) -> AsyncIterator[codeship_pb2.DownloadBlobsResponse]:
        """Send blobs in the order asked for."""
        _check_asked(request.digests)
        caller = current_caller()
        for digest in request.digests:
            for chunk in pieces(await _as(caller, self._store.blob, digest)):
                yield codeship_pb2.DownloadBlobsResponse(chunk=chunk)

    async def InstallVersion(
        self,
        request: codeship_pb2.InstallVersionRequest,
        _context: aio.ServicerContext[codeship_pb2.InstallVersionRequest, codeship_pb2.InstallVersionResponse],
    ) -> codeship_pb2.InstallVersionResponse:
        """Name a tree, for all projects."""
        _check_asked([request.digest])
        project = current_caller().project
        version = await self._versions.install(project, request.name, request.digest, request.catalogue)
        return codeship_pb2.InstallVersionResponse(version=version)

    async def GetVersion(
        self,
        request: codeship_pb2.GetVersionRequest,
        _context: aio.ServicerContext[codeship_pb2.GetVersionRequest, codeship_pb2.GetVersionResponse],
    ) -> codeship_pb2.GetVersionResponse:
        """Return what is installed under a name."""
        return codeship_pb2.GetVersionResponse(version=await self._versions.get(request.name))

    async def ListVersions(
        self,
        _request: codeship_pb2.ListVersionsRequest,
        _context: aio.ServicerContext[codeship_pb2.ListVersionsRequest, codeship_pb2.ListVersionsResponse],
    ) -> codeship_pb2.ListVersionsResponse:
        """Return what is installed."""
        return codeship_pb2.ListVersionsResponse(versions=await self._versions.all())

    async def RemoveVersion(
        self,
        request: codeship_pb2.RemoveVersionRequest,
        _context: aio.ServicerContext[codeship_pb2.RemoveVersionRequest, codeship_pb2.RemoveVersionResponse],
    ) -> codeship_pb2.RemoveVersionResponse:
        """Remove a version."""
        await self._versions.remove(request.name)
        return codeship_pb2.RemoveVersionResponse()


class _Upload:
    """The blobs of one stream, kept in groups."""

    def __init__(self, store: CodeStore, project: str) -> None:
        self._store = store
        self._project = project
        self._waiting: list[Packed] = []
        self._size = 0
        self.blobs = 0
        self.bytes = 0

    async def add(self, packed: Packed) -> None:
        self._waiting.append(packed)
        self._size += packed.size
        if self._size >= _GROUP_BYTES or len(self._waiting) >= _GROUP_BLOBS:
            await self.flush()

    async def flush(self) -> None:
        """Keep what waits, up to the first that lies. Raises UsageError there."""
        waiting, self._waiting, self._size = self._waiting, [], 0
        blobs, fault = await asyncio.to_thread(_verified, waiting)
        if blobs:
            await self._store.put_blobs(self._project, blobs)
        self.blobs += len(blobs)
        self.bytes += sum(packed.size for packed in blobs)
        if fault is not None:
            raise fault


async def _as(caller: Caller, get: Callable[[str | None, str], Awaitable[Thing]], digest: str) -> Thing:
    """Return what the caller's project has; to a worker, who runs everybody's tasks, what any project has."""
    try:
        return await get(caller.project, digest)
    except NotFound:
        if Role.WORKER not in caller.roles:
            raise
    return await get(None, digest)


async def _streamed(requests: AsyncIterator[codeship_pb2.UploadBlobsRequest]) -> AsyncIterator[BlobChunk]:
    async for request in requests:
        yield request.chunk
        for chunk in request.more:
            yield chunk


async def _each(chunks: Iterable[BlobChunk]) -> AsyncIterator[BlobChunk]:
    for chunk in chunks:
        yield chunk


def _verified(waiting: Iterable[Packed]) -> tuple[list[Packed], UsageError | None]:
    """Return the blobs before the first that lies, and what is wrong with that one."""
    blobs = []
    for packed in waiting:
        try:
            blobs.append(packed.verified())
        except UsageError as error:
            return blobs, error
    return blobs, None


def _check_asked(digests: Iterable[str]) -> None:
    for digest in digests:
        check_digest(digest)


def _check_content(entries: Iterable[TreeEntry], sizes: dict[str, int]) -> None:
    """Raise MissingBlobs where content was not uploaded, UsageError where an entry lies about its size."""
    missing = [entry.path for entry in entries if entry.digest not in sizes]
    if missing:
        raise MissingBlobs(f"the content of {len(missing)} files was not uploaded, among them {missing[0]!r}")
    for entry in entries:
        if sizes[entry.digest] != entry.size:
            raise UsageError(f"{entry.path!r}: its content has {sizes[entry.digest]} bytes, not {entry.size}")
