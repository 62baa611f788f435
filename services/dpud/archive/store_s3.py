"""The store in a bucket of any S3: each file as files/aa/DIGEST, whole or not there."""

from __future__ import annotations

import hashlib
import io
import re
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError
from obstore.exceptions import NotFoundError as NoSuchObject
from obstore.store import S3Store

from dpu.errors import BadFrame, NotFound, Unreachable
from dpud.archive.store import PIECE, read, refuse_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader
    from pathlib import Path

    from _typeshed import WriteableBuffer
    from obstore import ReadableFile
    from obstore.store import ObjectStore, RetryConfig

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MARK = "catalogue.mark"
_PARTIAL = "partial/"
#: Callers try again by themselves: what does not work is said soon.
_RETRIES: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
#: What is younger may be on its way in by another process than the one that sweeps.
YOUNG = timedelta(hours=1)
#: What a reader fetches at a time.
_AHEAD = 8 * PIECE


class BucketStore:
    """Files in a bucket, which others may use too; these are below `files/` and `partial/`."""

    def __init__(self, objects: ObjectStore, *, young: timedelta = YOUNG) -> None:
        self._objects = objects
        self._young = young
        with reaching("cannot be listed"):
            # What a killed process was writing is nobody's, once nobody can be writing it any more.
            obstore.delete(objects, list(self._keys(_PARTIAL, young)))

    def put(self, file: Path, digest: str, *, ours: bool = False) -> None:
        """Take in a file. One that is there already is written again, which keeps it from being swept as an orphan."""
        if not _DIGEST.fullmatch(digest):
            raise BadFrame(f"{digest!r} is no digest: 64 hexadecimal digits are")
        with read(file) as reading, reaching(f"{digest} cannot be written"):
            if ours:
                obstore.put(self._objects, _key(digest), reading)
                file.unlink()
            else:
                self._copy(reading, digest)

    def open(self, digest: str) -> BinaryIO:
        """Open a file."""
        with reaching(f"{digest} cannot be read"):
            try:
                reader = obstore.open_reader(self._objects, _key(digest), buffer_size=_AHEAD)
            except (NoSuchObject, FileNotFoundError):
                raise NotFound(f"no file has digest {digest!r}") from None
        return io.BufferedReader(_Reading(reader, digest), PIECE)

    def path(self, digest: str) -> Path | None:  # noqa: ARG002 (no object has a path)
        """Return None: nothing here can be read in place."""
        return None

    def remove(self, digest: str) -> None:
        """Remove a file."""
        with reaching(f"{digest} cannot be removed"):
            obstore.delete(self._objects, [_key(digest)])

    def digests(self, *, settled: bool = False) -> Iterator[str]:
        """Give every digest; `settled`: of the files that are not young."""
        with reaching("cannot be listed"):
            for key in self._keys("files/", self._young if settled else None):
                if _DIGEST.fullmatch(name := key.rsplit("/", 1)[-1]):
                    yield name

    def _keys(self, prefix: str, older: timedelta | None) -> Iterator[str]:
        now = datetime.now(tz=UTC)
        for page in obstore.list(self._objects, prefix):
            for found in page:
                if older is None or found["last_modified"] <= now - older:
                    yield found["path"]

    def _copy(self, reading: BufferedReader, digest: str) -> None:
        """Send what is read under a name of no meaning; check it; then give it its own."""
        partial, state = f"{_PARTIAL}{uuid4().hex}", hashlib.sha256()
        try:
            obstore.put(self._objects, partial, _told(reading, state.update))
            if (found := state.hexdigest()) != digest:
                raise refuse_digest(digest, found)
            obstore.copy(self._objects, partial, _key(digest))
        finally:
            obstore.delete(self._objects, [partial])


class BucketLabel:
    """The mark of a catalogue, as an object beside its files."""

    def __init__(self, objects: ObjectStore, url: str, key: str = "DPU_FILES") -> None:
        self._objects = objects
        #: What the setting is, for messages.
        self.setting = f"{key}={url!r}"

    def read(self) -> str:
        """Return the mark, '' where there is none."""
        with reaching(f"{_MARK} cannot be read"):
            try:
                return bytes(obstore.get(self._objects, _MARK).bytes()).decode().strip()
            except (NoSuchObject, FileNotFoundError):
                return ""

    def write(self, mark: str) -> None:
        """Write the mark, durably."""
        with reaching(f"{_MARK} cannot be written"):
            obstore.put(self._objects, _MARK, mark.encode() + b"\n")


class _Reading(io.RawIOBase):
    """An object as a file that is read from its beginning."""

    def __init__(self, reader: ReadableFile, digest: str) -> None:
        self._reader = reader
        self._digest = digest

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read into a buffer; return how many bytes, 0 at the end. Raises Unreachable."""
        target = memoryview(buffer).cast("B")
        with reaching(f"{self._digest} cannot be read"):
            data = memoryview(self._reader.read(len(target)))
        target[: len(data)] = data
        return len(data)


def open_bucket(url: str, key: str) -> tuple[BucketStore, BucketLabel]:
    """Return the store in a bucket, 's3://name/prefix', which the setting `key` names, and the label of its files.

    Where the S3 is, and how to log in there, is told by AWS_* in the environment, as everywhere. Raises Unreachable.
    """
    objects = S3Store.from_url(url, retry_config=_RETRIES)
    return BucketStore(objects), BucketLabel(objects, url, key)


@contextmanager
def reaching(what: str) -> Iterator[None]:
    """Turn what an S3 refuses inside the block into Unreachable."""
    try:
        yield
    except BaseError as error:
        # Of what the library says only the first line is for people.
        raise Unreachable(f"the bucket of the archive: {what}: {str(error).splitlines()[0]}") from error


def _key(digest: str) -> str:
    return f"files/{digest[:2]}/{digest}"


def _told(reading: BufferedReader, tell: Callable[[bytes], object]) -> Iterator[bytes]:
    """Yield a file in pieces, and tell of each."""
    while piece := reading.read(PIECE):
        tell(piece)
        yield piece
