"""Code in a bucket of any S3, and nowhere else: the process that serves it keeps nothing.

    blobs/<digest>                a blob, as the frame that it came in
    projects/<project>/<digest>   a project's tree: when it was used last, and the serialised tree
    versions/<name>               a version

A project holds the blobs that its trees have, and those that it has put since this process began. What was uploaded
before that, for a tree that never came, it sends again.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import obstore
import zstandard
from obstore.exceptions import BaseError
from obstore.exceptions import NotFoundError as NoSuchObject
from obstore.store import S3Store

from dpu.channel import MIB
from dpu.errors import Unreachable
from dpu_api.v1.codeship_pb2 import Tree, Version
from dpud.codeship.blobs import Packed
from dpud.codeship.disused import Removed
from dpud.codeship.quota import QUOTA_MIB, check_quota
from dpud.codeship.store import unknown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence

    from obstore.store import ObjectStore, RetryConfig

#: Callers try again by themselves: what does not work is said soon.
_RETRIES: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}
#: So many objects are written or read at a time.
_TOGETHER = 16
#: So exactly is it written down when a tree was used: to do it at every use would cost a journey each.
_EXACT_S = 86_400.0
_USED = struct.Struct("!d")
_BLOBS, _PROJECTS, _VERSIONS = "blobs/", "projects/", "versions/"


class _Put(NamedTuple):
    """When a blob was put by this process, and how large it is."""

    moment: float
    size: int


class _Kept(NamedTuple):
    """A tree as it is kept."""

    key: str
    used: float
    content: bytes

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes of its blobs."""
        return {entry.digest: entry.size for entry in Tree.FromString(self.content).entries}


class S3CodeStore:
    """Keeps code in a bucket, which others may use too; of each project at most `quota` bytes."""

    def __init__(
        self, objects: ObjectStore, quota: int = QUOTA_MIB * MIB, clock: Callable[[], float] = time.time
    ) -> None:
        self._objects = objects
        self._quota = quota
        self._clock = clock
        # By project: the sizes of the blobs that it holds; read from its trees when they are needed first.
        self._held: dict[str, dict[str, int]] = {}
        self._put: dict[tuple[str, str], _Put] = {}
        # One change after the other, and what was read while something was removed is read again.
        self._changing = asyncio.Lock()
        self._removals = 0

    async def sizes(self, project: str, digests: Iterable[str]) -> dict[str, int]:
        """Return the sizes of those blobs that the project has put."""
        held = await self._holding(project)
        return {digest: held[digest] for digest in digests if digest in held}

    async def put_blobs(self, project: str, blobs: Iterable[Packed]) -> None:
        """Keep blobs."""
        async with self._changing:
            await self._put_blobs(project, tuple(blobs))

    async def blob(self, project: str | None, digest: str) -> Packed:
        """Return a blob."""
        if project is None or digest in await self._holding(project):
            frame = await self._get(_BLOBS + digest)
            if frame is not None:
                return Packed(digest, zstandard.frame_content_size(frame), frame)
        raise unknown("blob", digest)

    async def put_tree(self, project: str, digest: str, tree: bytes, blobs: Iterable[Packed] = ()) -> None:
        """Keep a tree, and blobs that came with it."""
        async with self._changing:
            await self._put_blobs(project, tuple(blobs))
            await self._keep(_folder(project) + digest, tree)

    async def tree(self, project: str | None, digest: str) -> bytes:
        """Return a tree, and remember that it was used."""
        for folder in await self._folders() if project is None else [_folder(project)]:
            kept = await self._tree(folder + digest)
            if kept is not None:
                if self._clock() - kept.used > _EXACT_S:
                    await self._note_use(kept.key)
                return kept.content
        raise unknown("tree of code", digest)

    async def versions(self) -> dict[str, bytes]:
        """Return all versions."""
        keys = sorted(found["path"] for found in await self._list(_VERSIONS))
        found = {_name(key): await self._get(key) for key in keys}
        return {name: version for name, version in found.items() if version is not None}

    async def put_version(self, name: str, version: bytes) -> None:
        """Keep a version."""
        await self._write(_VERSIONS + name, version)

    async def remove_version(self, name: str) -> None:
        """Remove a version."""
        await self._delete([_VERSIONS + name])

    async def remove_disused(self, before: float) -> Removed:
        """Remove what was used last before a moment, in seconds of the epoch."""
        async with self._changing:
            self._put = {key: put for key, put in self._put.items() if put.moment >= before}
            trees: list[str] = []
            gone: dict[str, int] = {}
            named = {digest for _, digest in self._put}
            installed = {Version.FromString(version).digest for version in (await self.versions()).values()}
            async for kept in self._trees(_PROJECTS):
                if kept.used < before and _name(kept.key) not in installed:
                    trees.append(kept.key)
                    gone |= kept.sizes
                else:
                    named |= kept.sizes.keys()
            blobs = {
                _name(found["path"]): found["size"]
                for found in await self._list(_BLOBS)
                if _name(found["path"]) not in named and found["last_modified"].timestamp() < before
            }
            # In this order: what is broken off leaves blobs without a tree, and no tree without its blobs.
            await self._delete(trees)
            await self._delete([_BLOBS + digest for digest in blobs])
            self._held.clear()
            self._removals += 1
        return Removed(len(trees), len(blobs), sum(gone.get(digest, size) for digest, size in blobs.items()))

    def close(self) -> None:
        """Do nothing: nothing is held open."""

    async def _holding(self, project: str) -> dict[str, int]:
        """Return the sizes of the blobs that a project holds."""
        while project not in self._held:
            removals = self._removals
            held: dict[str, int] = {}
            async for kept in self._trees(_folder(project)):
                held |= kept.sizes
            if removals == self._removals:
                mine = {digest: put.size for (owner, digest), put in self._put.items() if owner == project}
                self._held[project] = held | mine
        return self._held[project]

    async def _put_blobs(self, project: str, blobs: Sequence[Packed]) -> None:
        """Keep blobs: until all of them are there, nobody holds them."""
        held = await self._holding(project)
        sizes = {each.digest: each.size for each in blobs}
        added = sum(size for digest, size in sizes.items() if digest not in held)
        check_quota(sum(held.values()), added, self._quota)
        for group in _groups(blobs):
            await asyncio.gather(*(self._write(_BLOBS + each.digest, each.frame) for each in group))
        now = self._clock()
        held |= sizes
        self._put |= {(project, digest): _Put(now, size) for digest, size in sizes.items()}

    async def _keep(self, key: str, content: bytes) -> None:
        await self._write(key, _USED.pack(self._clock()) + content)

    async def _note_use(self, key: str) -> None:
        async with self._changing:
            # Looked at once more: it may have been removed meanwhile.
            kept = await self._tree(key)
            if kept is not None:
                await self._keep(key, kept.content)

    async def _trees(self, prefix: str) -> AsyncIterator[_Kept]:
        """Yield the trees below a folder."""
        for group in _groups([found["path"] for found in await self._list(prefix)]):
            for kept in await asyncio.gather(*map(self._tree, group)):
                if kept is not None:
                    yield kept

    async def _tree(self, key: str) -> _Kept | None:
        data = await self._get(key)
        return None if data is None else _Kept(key, _USED.unpack_from(data)[0], data[_USED.size :])

    # The bucket

    async def _write(self, key: str, data: bytes) -> None:
        with _reaching(f"{key} cannot be written"):
            await obstore.put_async(self._objects, key, data)

    async def _get(self, key: str) -> bytes | None:
        with _reaching(f"{key} cannot be read"):
            try:
                found = await obstore.get_async(self._objects, key)
                return bytes(await found.bytes_async())
            except (NoSuchObject, FileNotFoundError):
                return None

    async def _list(self, prefix: str) -> list[Mapping[str, Any]]:
        with _reaching(f"{prefix} cannot be listed"):
            return [found async for page in obstore.list(self._objects, prefix) for found in page]

    async def _folders(self) -> list[str]:
        """Return the folders of all projects."""
        with _reaching(f"{_PROJECTS} cannot be listed"):
            found = await obstore.list_with_delimiter_async(self._objects, _PROJECTS)
            return [f"{prefix.rstrip('/')}/" for prefix in found["common_prefixes"]]

    async def _delete(self, keys: list[str]) -> None:
        if keys:
            with _reaching(f"{keys[0]} cannot be removed"):
                await obstore.delete_async(self._objects, keys)


def open_bucket(url: str, quota: int) -> S3CodeStore:
    """Return the store in a bucket, 's3://name/prefix'.

    Where the S3 is, and how to log in there, is told by AWS_* in the environment, as everywhere.
    """
    return S3CodeStore(S3Store.from_url(url, retry_config=_RETRIES), quota)


@contextmanager
def _reaching(what: str) -> Iterator[None]:
    """Turn what an S3 refuses inside the block into Unreachable."""
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        # A bucket that is not there is no file. Of what the library says only the first line is for people.
        raise Unreachable(f"the bucket of the code: {what}: {str(error).splitlines()[0]}") from error


def _folder(project: str) -> str:
    """Return the folder of a project, whatever it is called."""
    return f"{_PROJECTS}{hashlib.sha256(project.encode()).hexdigest()}/"


def _name(key: str) -> str:
    return key.rsplit("/", 1)[-1]


def _groups(everything: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield a sequence in parts that are done at a time."""
    for start in range(0, len(everything), _TOGETHER):
        yield everything[start : start + _TOGETHER]
