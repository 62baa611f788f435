"""The node's cache of frames: files by content, read-only, so that a frame is fetched once for all tasks here."""

from __future__ import annotations

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

    from dpu_api.v1.archive_pb2 import Frame
    from dpu_api.v1.archive_pb2_grpc import ArchiveServiceAsyncStub

CALL_S = 600.0


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
        for broken in folder.glob(".*"):
            broken.unlink()
        there = by_use(folder, "[0-9a-f]*", lambda path: path.stat().st_size)
        self._shelf = Shelf(capacity, lambda digest: (folder / digest).unlink(missing_ok=True), there)

    @asynccontextmanager
    async def holding(self, frame: Frame, project: str, job_id: int) -> AsyncIterator[Path]:
        """Give the path of a frame's file, kept during the block.

        `frame` came from the archive in the name of the same project and job: who asks may see it.
        """
        stub = ArchiveServiceStub(self._archive.of(project))
        request = FetchFrameRequest(id=frame.id, job_id=job_id, in_place=self._in_place)
        if self._in_place:
            yield await patiently(lambda: self._path(stub, request), "the archive", self._patience_s)
            return
        async with self._shelf.holding(frame.digest, lambda: self._fetch(stub, request, frame)):
            path = self._folder / frame.digest
            os.utime(path)
            yield path

    async def _path(self, stub: ArchiveServiceAsyncStub, request: FetchFrameRequest) -> Path:
        async for answer in stub.FetchFrame(request, timeout=CALL_S):
            if answer.frame.path:
                return Path(answer.frame.path)
        raise InternalError(f"the archive named no path for frame {request.id}: unset DPU_ARCHIVE_IN_PLACE")

    async def _fetch(self, stub: ArchiveServiceAsyncStub, request: FetchFrameRequest, frame: Frame) -> int:
        return await patiently(lambda: self._download(stub, request, frame), "the archive", self._patience_s)

    async def _download(self, stub: ArchiveServiceAsyncStub, request: FetchFrameRequest, frame: Frame) -> int:
        """Write the file under its digest, whole or not at all, and return its size."""
        fresh = self._folder / f".{frame.digest}"
        state = hashlib.sha256()
        try:
            with fresh.open("wb") as file:
                async for answer in stub.FetchFrame(request, timeout=CALL_S):
                    if answer.chunk:
                        state.update(answer.chunk)
                        file.write(answer.chunk)
            if state.hexdigest() != frame.digest:
                raise InternalError(f"the archive sent {frame.file_name} with digest {state.hexdigest()}, not its own")
            fresh.chmod(0o444)
            fresh.replace(self._folder / frame.digest)
        except (OSError, DpuError):
            fresh.unlink(missing_ok=True)
            raise
        return frame.size
