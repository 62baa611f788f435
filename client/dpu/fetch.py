"""Files of products, brought from the archive to where the user is."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from dpu.errors import InternalError, NothingSelected, UsageError
from dpu.exported import export, stored_digest
from dpu.products import made
from dpu_api.v1.archive_pb2 import FetchFrameRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from dpu.link import Link, Services
    from dpu_api.v1.archive_pb2 import Frame

DEADLINE_S = 600.0


def fetch(link: Link, frames: Sequence[Frame], folder: Path) -> list[Path]:
    """Bring the files of frames into `folder` under their names and return the paths.

    Their headers say which job and which code made them. A file is there whole or not at all, and one that is there
    already with the same content is kept. Raises UsageError where another is in the way or the folder cannot be
    written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_bring(link, frame, folder / frame.file_name) for frame in frames]
    except OSError as error:
        raise UsageError(f"{str(folder)!r} cannot be written: {error.strerror}") from error


def files_of(link: Link, job_id: int) -> list[Frame]:
    """Return those of a job's main objects that have a file. Raises NothingSelected where none has."""
    frames = made(link, job_id)
    found = [frame for frame in frames if frame.size]
    if not found:
        stands = "nothing so far (what stands already is not made again: its log names it)"
        what = "only measured values: dpu.get_job_result shows them" if frames else stands
        raise NothingSelected(f"job {job_id} has no file to bring: it made {what}")
    return found


def read(link: Link, frame: Frame, into: BinaryIO) -> None:
    """Write the bytes of a frame's file into `into`, and check them. Raises InternalError where they are not whole."""

    def receive(services: Services) -> None:
        into.seek(0)
        into.truncate()
        state = hashlib.sha256()
        for chunk in _chunks(services, frame):
            state.update(chunk)
            into.write(chunk)
        if state.hexdigest() != frame.digest:
            raise InternalError(f"{frame.file_name} did not arrive as it is in the archive: try again")

    link.attempt(receive)


def _chunks(services: Services, frame: Frame) -> Iterator[bytes]:
    request = FetchFrameRequest(id=frame.id, job_id=frame.ref.job_id)
    for answer in services.archive.FetchFrame(request, timeout=DEADLINE_S):
        yield answer.chunk


def _bring(link: Link, frame: Frame, path: Path) -> Path:
    if path.exists():
        if _is_of(frame, path):
            return path
        raise UsageError(f"{str(path)!r} is there with another content: name another folder")
    brought = path.with_name(f".{path.name}.{os.getpid()}.part")
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with brought.open("w+b") as stored, fresh.open("wb") as file:
            read(link, frame, stored)
            export(stored, frame, file)
        fresh.replace(path)
    finally:
        brought.unlink(missing_ok=True)
        fresh.unlink(missing_ok=True)
    return path


def _is_of(frame: Frame, path: Path) -> bool:
    """Return whether a file is what was exported of a frame."""
    with path.open("rb") as file, suppress(InternalError):
        return stored_digest(file, path.name) == frame.digest
    return False
