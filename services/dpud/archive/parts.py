"""Several files in one stream of messages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dpu.errors import BadFrame
from dpud.archive.ingest import Part

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dpu_api.v1.archive_pb2 import IngestFile, IngestRequest


async def parts_of(first: IngestFile, messages: AsyncIterator[IngestRequest]) -> AsyncIterator[Part]:
    """Give the files of a stream in which `first` was named; the bytes of each must be taken before the next.

    All of them are read in place, or all of them are sent. Raises BadFrame.
    """
    file: IngestFile | None = first
    while file is not None:
        following: list[IngestFile] = []
        chunks = _until_next(messages, following)
        yield Part(file.frame_class, file.name or file.path, Path(file.path) if file.path else None, chunks)
        async for _ in chunks:
            raise BadFrame(f"{file.name or file.path}: bytes came of a file that is to be read in place")
        file = following[0] if following else None
        if file is not None and bool(file.path) != bool(first.path):
            raise BadFrame(f"{file.name or file.path}: of files that come together, all are read in place or none")


async def _until_next(messages: AsyncIterator[IngestRequest], following: list[IngestFile]) -> AsyncIterator[bytes]:
    """Give the bytes of a file; the message that names the next goes to `following`."""
    async for message in messages:
        if message.WhichOneof("item") == "file":
            following.append(message.file)
            return
        yield message.chunk
