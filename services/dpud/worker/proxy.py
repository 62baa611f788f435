"""Asks the archive on behalf of one task: with its project and its job, and with nothing else's."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from dpu.channel import CHUNK
from dpu.errors import Conflict, MissingCalibration, NotFound, UsageError
from dpu_api.v1.archive_pb2 import (
    FindCalibrationRequest,
    Frame,
    ListFramesRequest,
    StagedProduct,
    StageProductRequest,
)
from dpu_api.v1.archive_pb2_grpc import ArchiveServiceStub
from dpud.worker import wire
from dpud.worker.offered import Scratch, identity
from dpud.worker.peers import PATIENCE_S, answered, patiently

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from dpu_api.v1.dispatch_pb2 import TaskLease
    from dpud.worker.frames import Frames
    from dpud.worker.peers import Channels

SERVICE = "the archive"
#: Of privileges: docs/reference/access.md.
LEVELS = range(1, 6)
CALL_S = 60.0
STAGE_S = 600.0


class ArchiveProxy:
    """The five calls of dpu_recipes.archive.Archive, as JSON, for one attempt."""

    def __init__(self, lease: TaskLease, scratch: Path, archive: Channels, frames: Frames, *, in_place: bool) -> None:
        self._lease = lease
        self._scratch = Scratch(scratch)
        self._stub = ArchiveServiceStub(archive.of(lease.project))
        self._frames = frames
        self._in_place = in_place
        # What the archive has shown to this task, and so what it may open.
        self._shown: dict[str, Frame] = {}
        self._open = AsyncExitStack()
        self.products = 0
        self.patience_s = PATIENCE_S

    async def answer(self, call: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return {'result': ...}, or {'error': kind, 'message': text} where the recipe may handle it.

        Raises DpuError where the archive cannot do its work: no recipe can do anything about that.
        """
        calls: dict[str, Callable[..., Awaitable[Any]]] = {
            "select": self.select,
            "find": self.find,
            "calibration": self.calibration,
            "open": self.open,
            "save": self.save,
        }
        try:
            return {"result": await calls[call](**arguments)}
        except (UsageError, NotFound, Conflict) as error:
            return {"error": type(error).__name__, "message": error.message}
        except (KeyError, TypeError) as error:
            return {"error": "UsageError", "message": f"{call}: {error}"}

    async def close(self) -> None:
        """Let go of the frames that the task has opened, and of its folder."""
        self._scratch.close()
        await self._open.aclose()

    async def select(self, frame_class: str, selection: dict[str, Any]) -> list[dict[str, Any]]:
        """Return all frames of a selection."""
        request = ListFramesRequest(
            frame_class=str(frame_class),
            selection=wire.selection_from_json(selection),
            job_id=self._lease.ref.job_id,
            user=self._lease.user,
            # Which products of an identity are outdated, the archive tells at once; asking here is a call a question.
            standing_only=bool(selection.get("identity")),
        )
        return [self._show(frame) for frame in await self._list(request)]

    async def find(self, frame_ids: list[str]) -> dict[str, Any]:
        """Return frames by their identifiers, all or none, and the files of those that are in the cache."""
        found = await self._look_up(frame_ids)
        return {"frames": [self._show(frame) for frame in found], "files": self._at_hand(*found)}

    async def calibration(self, frame_class: str, frame_id: str, overscan: int | None) -> dict[str, Any]:
        """Return the calibration that is valid for a frame, and why it was chosen."""
        request = FindCalibrationRequest(
            frame_class=str(frame_class),
            frame_id=str(frame_id),
            job_id=self._lease.ref.job_id,
            overscan=-1 if overscan is None else int(overscan),
            user=self._lease.user,
        )
        found = await self._try(lambda: self._stub.FindCalibration(request, timeout=CALL_S))
        if not found.HasField("frame"):
            raise MissingCalibration(f"the archive found no {frame_class} for frame {frame_id}")
        return {"frame": self._show(found.frame), "why": found.why, "files": self._at_hand(found.frame)}

    async def open(self, frame_id: str) -> str:
        """Return the path of a frame's file, which stays there until the task ends."""
        frame = self._shown.get(frame_id) or (await self._look_up([frame_id]))[0]
        if not frame.digest:
            raise UsageError(f"{frame.file_name or frame.id} is a {frame.frame_class} of values only: it has no file")
        if (path := self._frames.at_hand(frame, self._open)) is not None:
            return str(path)
        lease = self._lease
        holding = self._frames.holding(frame, lease.project, lease.ref.job_id, user=lease.user)
        return str(await self._open.enter_async_context(holding))

    async def save(self, product: dict[str, Any], file: str | None) -> dict[str, Any]:
        """Stage a product under this attempt and its number within it."""
        frame = wire.frame_from_json(product)
        # The archive gives these.
        for name in ("id", "file_name", "creation_date"):
            frame.ClearField(name)
        frame.ref.CopyFrom(self._lease.ref)
        frame.code_digest = self._lease.code_digest
        frame.privileges = self._privileges()
        with nullcontext() if file is None else self._scratch.offered(file) as source:
            frame.digest, frame.size = ("", 0) if source is None else await asyncio.to_thread(identity, source)
            staging = partial(self._staging, frame, self.products, source, str(file))
            answer = await self._try(lambda: answered(self._stub.StageProduct(staging(), timeout=STAGE_S), SERVICE))
        self.products += 1
        return self._show(answer.frame)

    async def _staging(
        self, frame: Frame, number: int, source: BinaryIO | None, path: str
    ) -> AsyncIterator[StageProductRequest]:
        announced = StagedProduct(frame=frame, number=number, user=self._lease.user, project=self._lease.project)
        if source is not None and self._in_place:
            # The archive hashes what it finds there: it is this file, or it is refused.
            announced.path = path
        yield StageProductRequest(product=announced)
        if source is not None and not self._in_place:
            source.seek(0)
            while chunk := source.read(CHUNK):
                yield StageProductRequest(chunk=chunk)

    def _privileges(self) -> int:
        """Return how far the job's products are to be seen; 0: as those are that nobody said it of."""
        options = self._lease.options.entries
        level = options["privileges"].int_value if "privileges" in options else 0
        return level if level in LEVELS else 0

    def _at_hand(self, *frames: Frame) -> dict[str, str]:
        """Return the files of frames that are in the cache, by identifier; they stay there until the task ends."""
        paths = {frame.id: self._frames.at_hand(frame, self._open) for frame in frames}
        return {frame_id: str(path) for frame_id, path in paths.items() if path is not None}

    async def _look_up(self, frame_ids: list[str]) -> list[Frame]:
        ids = list(map(str, frame_ids))
        found = await self._list(ListFramesRequest(ids=ids, job_id=self._lease.ref.job_id, user=self._lease.user))
        if len(found) < len(ids):
            raise NotFound(f"the archive has only {len(found)} of the frames {', '.join(map(repr, ids))}")
        return found

    async def _list(self, request: ListFramesRequest) -> list[Frame]:
        frames: list[Frame] = []
        while True:
            page = await self._try(lambda: self._stub.ListFrames(request, timeout=CALL_S))
            if page.standing_only:
                for frame in page.frames:
                    # They were asked again: a task has nothing left to ask.
                    frame.ClearField("consulted")
            frames += page.frames
            if not page.next_page_token:
                return frames
            request.page_token = page.next_page_token

    async def _try(self, call: Callable[[], Awaitable[Any]]) -> Any:
        return await patiently(call, SERVICE, self.patience_s)

    def _show(self, frame: Frame) -> dict[str, Any]:
        self._shown[frame.id] = frame
        return wire.frame_to_json(frame)
