"""Code in a folder: blobs once by content, and for each project a folder of hard links to those it put.

    blobs/<digest>                    every blob
    trees/<digest>                    every tree, as it was put last
    projects/<name>/blobs/<digest>    a link to the blob: this project put it
    projects/<name>/trees/<digest>    the tree as this project put it

A blob with a single link belongs to no project any more. A file's time is when it was used last: a tree when it was put
or asked for, a blob when it was put.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dpu.channel import MIB
from dpu.errors import Exhausted, InternalError, StorageFull
from dpud.codeship.disused import Removed, remove_disused
from dpud.codeship.store import unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")
#: Some hundreds of the largest trees, or hundreds of thousands of one-line changes.
QUOTA_MIB = 10 * 1024
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FileCodeStore:
    """Keeps code under `folder`, which it alone may use; of each project at most `quota` bytes."""

    def __init__(self, folder: Path, quota: int = QUOTA_MIB * MIB) -> None:
        self._folder = folder
        self._quota = quota
        # By a project's folder; counted when it is needed first.
        self._sizes: dict[Path, int] = {}
        # One writer: two uploads of one blob do not meet.
        self._writer = ThreadPoolExecutor(1, "code-writer")
        self._readers = ThreadPoolExecutor(4, "code-reader")
        # A file system brings down together what is synchronised at the same time.
        self._disk = ThreadPoolExecutor(16, "code-disk")
        for name in ("blobs", "trees", "projects", "incoming"):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in (folder / "incoming").iterdir():
            left.unlink()

    def close(self) -> None:
        """Wait for what is being written, and let go of the threads."""
        self._writer.shutdown()
        self._readers.shutdown()
        self._disk.shutdown()

    async def sizes(self, project: str, digests: Iterable[str]) -> dict[str, int]:
        """Return the sizes of those blobs that the project has put."""
        return await self._run(self._readers, _sizes, self._project(project) / "blobs", tuple(digests))

    async def put_blobs(self, project: str, blobs: Mapping[str, bytes]) -> None:
        """Keep blobs: written under another name, synchronised, then named and linked."""
        await self._run(self._writer, self._put_blobs, self._project(project) / "blobs", dict(blobs))

    async def remove_disused(self, before: float) -> Removed:
        """Remove what was used last before a moment, in seconds of the epoch."""
        return await self._run(self._writer, self._remove_disused, before)

    async def blob(self, project: str | None, digest: str) -> bytes:
        """Return a blob."""
        return await self._find(project, "blobs", digest, "blob")

    async def put_tree(self, project: str, digest: str, tree: bytes) -> None:
        """Keep a tree, for its project and for those who may see all."""
        await self._run(self._writer, self._put_tree, self._project(project) / "trees", digest, tree)

    async def tree(self, project: str | None, digest: str) -> bytes:
        """Return a tree."""
        return await self._find(project, "trees", digest, "tree of code")

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFull(f"the disk of the code store is full ({error.strerror}): try again later") from error
            raise InternalError(f"the code store cannot be used: {error.strerror or error}") from error

    async def _find(self, project: str | None, shelf: str, digest: str, kind: str) -> bytes:
        folder = self._folder if project is None else self._project(project)
        try:
            return await self._run(self._readers, _used if shelf == "trees" else _read, folder / shelf / digest)
        except FileNotFoundError:
            raise unknown(kind, digest) from None

    def _project(self, project: str) -> Path:
        # A project's name is a caller's text; its digest is a harmless file name.
        return self._folder / "projects" / hashlib.sha256(project.encode()).hexdigest()[:32]

    def _put_blobs(self, mine: Path, blobs: Mapping[str, bytes]) -> None:
        shared = self._folder / "blobs"
        added = sum(len(content) for digest, content in blobs.items() if not (mine / digest).exists())
        self._check_quota(mine, added)
        new = {digest: content for digest, content in blobs.items() if not (shared / digest).exists()}
        self._place(shared, new)
        _make(mine)
        self._sizes[mine] += added
        for digest in blobs:
            with suppress(FileExistsError):
                os.link(shared / digest, mine / digest)
            os.utime(mine / digest)
        _sync(mine)

    def _check_quota(self, mine: Path, added: int) -> None:
        """Raise Exhausted where a project would have more than it may."""
        if mine not in self._sizes:
            self._sizes[mine] = sum(blob.stat().st_size for blob in mine.iterdir()) if mine.exists() else 0
        if self._sizes[mine] + added > self._quota:
            raise Exhausted(
                f"the project has {self._sizes[mine] / MIB:.1f} MiB of code here; {added / MIB:.1f} MiB more are over "
                f"its quota of {self._quota / MIB:.1f} MiB: ship less, or wait until what nobody uses is removed"
            )

    def _remove_disused(self, before: float) -> Removed:
        self._sizes.clear()
        return remove_disused(self._folder, before)

    def _put_tree(self, mine: Path, digest: str, tree: bytes) -> None:
        _make(mine)
        self._place(self._folder / "trees", {digest: tree})
        self._place(mine, {digest: tree})

    def _place(self, folder: Path, files: Mapping[str, bytes]) -> None:
        """Put files into a folder, whole or not at all, down to the disk."""
        incoming = self._folder / "incoming"
        writes = [(self._disk.submit(_write, incoming, content), folder / name) for name, content in files.items()]
        wait([write for write, _ in writes])
        written = [(write.result(), target) for write, target in writes if write.exception() is None]
        try:
            for write, _ in writes:
                write.result()
            for source, target in written:
                source.replace(target)
        except OSError:
            for source, _ in written:
                source.unlink(missing_ok=True)
            raise
        if written:
            _sync(folder)


def _read(file: Path) -> bytes:
    return file.read_bytes()


def _used(file: Path) -> bytes:
    """Return a file's content, and remember that it was used."""
    os.utime(file)
    return file.read_bytes()


def _sizes(folder: Path, digests: Iterable[str]) -> dict[str, int]:
    found = {}
    for digest in digests:
        with suppress(FileNotFoundError):
            found[digest] = os.stat(f"{folder}/{digest}").st_size  # noqa: PTH116 (a Path a blob costs more than the call)
    return found


def _write(folder: Path, content: bytes) -> Path:
    """Write a new file down to the disk; leave none behind where that fails."""
    file, name = tempfile.mkstemp(dir=folder)
    path = Path(name)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(file)
    except OSError:
        path.unlink()
        raise
    return path


def _make(folder: Path) -> None:
    """Make a project's folder and that above it, durable."""
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True)
        _sync(folder.parent)
        _sync(folder.parent.parent)


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
