"""The node's cache of code: trees by digest, read-only, whose unchanged files are stored once.

    blobs/<mode>-<sha-256>      a file's content, a hard link of every tree that has it
    trees/<digest>/...          a whole tree, made in one step

A tree is checked as if it came from an enemy, and so is every blob.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import zstandard

from dpu.errors import BadTree
from dpu.tree import check, digest_of
from dpu_api.v1.codeship_pb2 import DownloadBlobsRequest, GetTreeRequest
from dpu_api.v1.codeship_pb2_grpc import CodeServiceStub
from dpud.worker.folders import remove
from dpud.worker.peers import PATIENCE_S, Channels, patiently
from dpud.worker.shelf import Shelf, by_use

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dpu_api.v1.codeship_pb2 import BlobChunk, Tree, TreeEntry
    from dpu_api.v1.codeship_pb2_grpc import CodeServiceAsyncStub

CALL_S = 60.0


class Trees:
    """Trees of shipped code, as folders that can go on sys.path."""

    def __init__(self, folder: Path, capacity: int, code: Channels, patience_s: float = PATIENCE_S) -> None:
        self._blobs = folder / "blobs"
        self._trees = folder / "trees"
        self._code = code
        self._patience_s = patience_s
        self._building = 0
        for made in (self._blobs, self._trees):
            # Where tasks run in a container of their own, they read by their group.
            made.mkdir(parents=True, exist_ok=True, mode=0o750)
        for broken in self._trees.glob(".*"):
            remove(broken)
        self._shelf = Shelf(capacity, self._forget, by_use(self._trees, "[0-9a-f]*", _size_of))
        self._sweep()

    @asynccontextmanager
    async def holding(self, digest: str, project: str) -> AsyncIterator[Path]:
        """Give the folder of a tree, kept during the block. Raises BadTree, NotFound, Unreachable."""
        async with self._shelf.holding(digest, lambda: self._fetch(digest, project)):
            path = self._trees / digest
            os.utime(path)
            yield path

    async def description(self, digest: str, project: str) -> str:
        """Return what a tree was called when it was shipped last: 'digest, git commit + N changed files'."""
        stub = CodeServiceStub(self._code.of(project))
        tree = await patiently(lambda: self._tree(stub, digest), "code shipping", self._patience_s)
        return tree.description or digest[:12]

    async def _fetch(self, digest: str, project: str) -> int:
        stub = CodeServiceStub(self._code.of(project))
        tree = await patiently(lambda: self._tree(stub, digest), "code shipping", self._patience_s)
        missing = {entry.digest: entry.size for entry in tree.entries if not self._blob(entry).exists()}
        fetched: dict[str, bytes] = {}
        if missing:
            fetched = await patiently(lambda: _download(stub, missing), "code shipping", self._patience_s)
        self._building += 1
        try:
            await asyncio.to_thread(self._build, digest, tree, fetched)
        finally:
            self._building -= 1
        return sum(entry.size for entry in tree.entries)

    async def _tree(self, stub: CodeServiceAsyncStub, digest: str) -> Tree:
        answer = await stub.GetTree(GetTreeRequest(digest=digest), timeout=CALL_S)
        check(answer.tree.entries)
        if digest_of(answer.tree.entries) != digest:
            raise BadTree(f"the tree that came as {digest} has digest {digest_of(answer.tree.entries)}")
        return answer.tree

    def _build(self, digest: str, tree: Tree, fetched: dict[str, bytes]) -> None:
        """Make the tree beside its place and move it there: a half one is never seen."""
        made = Path(tempfile.mkdtemp(prefix=".", dir=self._trees))
        try:
            for entry in tree.entries:
                blob = self._blob(entry)
                if not blob.exists():
                    _write(blob, fetched[entry.digest], 0o555 if entry.mode & 0o100 else 0o444)
                path = made / entry.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.hardlink_to(blob)
            for where, _, _ in os.walk(made):
                Path(where).chmod(0o555)
            # Its owner may rename a folder that cannot be written, but not move its '..'.
            made.chmod(0o755)
            made.rename(self._trees / digest)
            (self._trees / digest).chmod(0o555)
        except BaseException:
            remove(made)
            raise

    def _blob(self, entry: TreeEntry) -> Path:
        return self._blobs / f"{entry.mode & 0o777:o}-{entry.digest}"

    def _forget(self, digest: str) -> None:
        remove(self._trees / digest)
        self._sweep()

    def _sweep(self) -> None:
        """Remove the blobs that no tree has; not while a tree is built, whose blobs nobody has yet."""
        if self._building:
            return
        for blob in self._blobs.iterdir():
            if blob.stat().st_nlink == 1:
                blob.unlink()


async def _download(stub: CodeServiceAsyncStub, sizes: dict[str, int]) -> dict[str, bytes]:
    """Return blobs by digest, hashed anew. Raises BadTree where one is not what it should be."""
    packed: dict[str, bytearray] = {}
    async for answer in stub.DownloadBlobs(DownloadBlobsRequest(digests=list(sizes)), timeout=CALL_S):
        _gather(packed, answer.chunk, sizes)
    blobs = {digest: _unpacked(digest, bytes(data), sizes[digest]) for digest, data in packed.items()}
    if lost := sizes.keys() - blobs.keys():
        raise BadTree(f"code shipping did not send blob {min(lost)}")
    return blobs


def _gather(packed: dict[str, bytearray], chunk: BlobChunk, sizes: dict[str, int]) -> None:
    if chunk.digest not in sizes:
        raise BadTree(f"code shipping sent a blob that nobody asked for: {chunk.digest!r}")
    packed.setdefault(chunk.digest, bytearray()).extend(chunk.zstd)


def _unpacked(digest: str, packed: bytes, size: int) -> bytes:
    try:
        # One byte more than announced is enough to see a lie, and no bomb goes off.
        with zstandard.ZstdDecompressor().stream_reader(packed) as reader:
            data = reader.read(size + 1)
    except zstandard.ZstdError as error:
        raise BadTree(f"blob {digest} cannot be unpacked: {error}") from error
    if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
        raise BadTree(f"blob {digest} is not what its digest and its size of {size} say")
    return data


def _write(blob: Path, data: bytes, mode: int) -> None:
    """Write one blob so that it is whole, or not there."""
    # Two trees that are built at once may both write it.
    fresh = blob.with_name(f".{blob.name}.{uuid4().hex}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    fresh.replace(blob)


def _size_of(tree: Path) -> int:
    return sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
