"""Where bytes wait that are not the archive's yet: a folder each, gone when its block ends."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from dpu.errors import BadFrame
from dpud.archive.store import PIECE, read
from dpud.archive.store_files import refusing, write_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from dpud.archive.store import Store


class Received(NamedTuple):
    """A file whose bytes are known."""

    file: Path
    digest: str
    size: int


class Reception:
    """Folders for bytes on their way in, on the disk of the store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with refusing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # What a killed process was receiving is nobody's.
            for left in folder.iterdir():
                shutil.rmtree(left)

    @property
    def folder(self) -> Path:
        """Where all of it is, for messages."""
        return self._folder

    @asynccontextmanager
    async def room(self) -> AsyncIterator[Path]:
        """Give an empty folder until the block ends. Raises StorageFull."""
        room = self._folder / uuid4().hex
        with refusing(self._folder):
            room.mkdir()
        try:
            yield room
        finally:
            try:
                # Its files are the store's by now: to ask a thread takes longer.
                room.rmdir()
            except OSError:
                await asyncio.to_thread(shutil.rmtree, room)

    async def receive(self, chunks: AsyncIterator[bytes], file: Path) -> Received:
        """Write a stream of bytes to `file`. Raises StorageFull."""
        digest = hashlib.sha256()
        size = 0

        def take(chunk: bytes) -> None:
            digest.update(chunk)
            write_all(writing, chunk)

        with refusing(self._folder), file.open("xb", buffering=0) as writing:
            async for chunk in chunks:
                await asyncio.to_thread(take, chunk)
                size += len(chunk)
        return Received(file, digest.hexdigest(), size)


async def lent(store: Store, digest: str, copy: Path) -> Path:
    """Return where a file of a store can be read: where it lies, or at `copy`, to which it is copied then.

    Raises NotFound and StorageFull.
    """
    if (place := store.path(digest)) is not None:
        return place

    def bring() -> None:
        with refusing(copy.parent.parent), store.open(digest) as reading, copy.open("xb") as writing:
            shutil.copyfileobj(reading, writing, PIECE)

    await asyncio.to_thread(bring)
    return copy


def examine(file: Path) -> Received:
    """Read a file that a caller named, to its end. Raises BadFrame where that cannot be done."""
    check(file)
    with read(file) as reading:
        return Received(file, hashlib.file_digest(reading, "sha256").hexdigest(), reading.tell())


def check(file: Path) -> int:
    """Return the size of a file that a caller named. Raises BadFrame where nobody could read it."""
    if not file.is_absolute():
        raise BadFrame(f"{str(file)!r}: name the file by its absolute path")
    # Whoever opened a pipe or a device would wait for it.
    if file.exists() and not file.is_file():
        raise BadFrame(f"{str(file)!r} is no file")
    with read(file) as reading:
        return os.fstat(reading.fileno()).st_size
