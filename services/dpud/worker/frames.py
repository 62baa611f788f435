"""The node's cache of frames: files by content, read-only, so that a frame comes once for all tasks here.

Where the archive's own files are within reach, the cache holds hard links to them, which stay when the archive removes
its own, or across file systems symbolic ones; only where they are not are bytes copied.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dpu.errors import DpuError, InternalError
from dpu_api.v1.archive_pb2 import FetchFrameRequest
from dpu_api.v1.archive_pb2_grpc import ArchiveServiceStub
from dpud.worker.peers import PATIENCE_S, Channels, patiently
from dpud.worker.shelf import Shelf, by_use

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AsyncExitStack

    from dpu_api.v1.archive_pb2 import Frame
    from dpu_api.v1.archive_pb2_grpc import ArchiveServiceAsyncStub

CALL_S = 600.0
#: Another file system, another owner, or too many links already.
NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP})


class Frames:
    """Files of frames, for tasks to read."""

    def __init__(
        self, folder: Path, capacity: int, archive: Channels, *, in_place: bool, patience_s: float = PATIENCE_S
    ) -> None:
        self._folder = folder
        self._archive = archive
        self._in_place = in_place
        self._patience_s = patience_s
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _clear(folder)
        there = by_use(folder, "[0-9a-f]*", lambda path: path.stat().st_size)
        # Nobody knows what befell the disk meanwhile: what an earlier run left is hashed before it is used.
        self._unchecked = {digest for digest, _ in there}
        self._mending = asyncio.Lock()
        self._shelf = Shelf(capacity, lambda digest: (folder / digest).unlink(missing_ok=True), there)

    def at_hand(self, frame: Frame, held: AsyncExitStack) -> Path | None:
        """Return the path of a frame's file, kept until `held` is closed; None where it is to be fetched, or checked.

        `frame` came from the archive in the name of who asks.
        """
        if frame.digest not in self._shelf or not self._is_sound(frame):
            return None
        held.enter_context(self._shelf.keeping(frame.digest))
        return self._used(frame)

    @asynccontextmanager
    async def holding(self, frame: Frame, project: str, job_id: int, *, user: str = "") -> AsyncIterator[Path]:
        """Give the path of a frame's file, kept during the block.

        `frame` came from the archive in the name of the same project, job and user: who asks may see it.
        """
        stub = ArchiveServiceStub(self._archive.of(project))
        request = FetchFrameRequest(id=frame.id, job_id=job_id, user=user, in_place=self._in_place)
        async with self._shelf.holding(frame.digest, lambda: self._fetch(stub, request, frame)):
            if not self._is_sound(frame):
                await self._mend(stub, request, frame)
            yield self._used(frame)

    def _used(self, frame: Frame) -> Path:
        """Return the path of a file that is used from now on."""
        path = self._folder / frame.digest
        if path.is_symlink():
            return path.readlink()
        if path.stat().st_nlink == 1:
            # By its time a later run knows what was used last; that of a link is the archive's own file's.
            os.utime(path)
        return path

    def _is_sound(self, frame: Frame) -> bool:
        """Return whether the file is what was put there, as far as can be told without reading it."""
        try:
            size = (self._folder / frame.digest).stat().st_size
        except FileNotFoundError:
            return False
        return size == frame.size and frame.digest not in self._unchecked

    async def _mend(self, stub: ArchiveServiceAsyncStub, request: FetchFrameRequest, frame: Frame) -> None:
        """Check a file to its last byte, and fetch it anew where it is not what its name says."""
        async with self._mending:
            if self._is_sound(frame):
                return
            if await asyncio.to_thread(_digest, self._folder / frame.digest) != frame.digest:
                await self._fetch(stub, request, frame)
            self._unchecked.discard(frame.digest)

    async def _fetch(self, stub: ArchiveServiceAsyncStub, request: FetchFrameRequest, frame: Frame) -> int:
        size = await patiently(lambda: self._bring(stub, request, frame), "the archive", self._patience_s)
        self._unchecked.discard(frame.digest)
        return size

    async def _bring(self, stub: ArchiveServiceAsyncStub, request: FetchFrameRequest, frame: Frame) -> int:
        """Put the file under its digest, whole or not at all, and return its size."""
        fresh = self._folder / f".{frame.digest}"
        state = hashlib.sha256()
        try:
            with fresh.open("wb") as file:
                async for answer in stub.FetchFrame(request, timeout=CALL_S):
                    if answer.frame.path and self._in_place:
                        _link(Path(answer.frame.path), fresh, frame)
                        break
                    if answer.chunk:
                        state.update(answer.chunk)
                        file.write(answer.chunk)
                else:
                    if state.hexdigest() != frame.digest:
                        raise InternalError(
                            f"the archive sent {frame.file_name} with digest {state.hexdigest()}, not its own"
                        )
                    fresh.chmod(0o444)
            fresh.replace(self._folder / frame.digest)
        except (OSError, DpuError):
            fresh.unlink(missing_ok=True)
            raise
        return frame.size


def _clear(folder: Path) -> None:
    """Remove what was on its way, and links, which are as soon made again as checked."""
    for file in folder.iterdir():
        if file.name.startswith(".") or file.is_symlink() or file.stat().st_nlink > 1:
            file.unlink()


def _link(source: Path, target: Path, frame: Frame) -> None:
    """Make `target` a link to the archive's own file. Raises InternalError where that cannot be read here."""
    try:
        if source.stat().st_size != frame.size:
            raise InternalError(f"{source} is not the {frame.size} bytes of frame {frame.id}: look after the disk")
        target.unlink()
        try:
            target.hardlink_to(source)
        except OSError as error:
            if error.errno not in NO_LINK:
                raise
            target.symlink_to(source)
    except OSError as error:
        raise InternalError(
            f"the archive's file {source} cannot be read here ({error.strerror}): unset DPU_ARCHIVE_IN_PLACE"
        ) from error


def _digest(file: Path) -> str:
    """Return the digest of a file, '' of one that is not there."""
    try:
        with file.open("rb") as reading:
            return hashlib.file_digest(reading, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
