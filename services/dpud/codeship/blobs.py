"""Blobs on the wire: zstd frames in pieces, believed only after they were hashed anew."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zstandard

from dpu.channel import CHUNK
from dpu.errors import BadTree, UsageError
from dpu.tree import LIMITS, check_digest
from dpu_api.v1.codeship_pb2 import BlobChunk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

#: Decompression needs a window of this size at most: no more than a blob may have.
_WINDOW = LIMITS.file_bytes
_NOTHING = zstandard.ZstdCompressor().compress(b"")


@dataclass(frozen=True, slots=True)
class Packed:
    """A blob as it arrived: what it claims to be, and its zstd frame."""

    digest: str
    size: int
    frame: bytes

    def verified(self) -> Packed:
        """Return the blob as it may be kept. Raises UsageError unless digest and size are as claimed.

        The frame must declare the claimed size itself: no more memory than that is ever used.
        """
        try:
            declared = zstandard.frame_content_size(self.frame)
            if declared != self.size:
                raise UsageError(f"blob {self.digest}: its frame declares {declared} bytes, its chunk {self.size}")
            unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
            content = unpacker.decompress(self.frame, allow_extra_data=False) if declared else b""
        except zstandard.ZstdError as error:
            raise UsageError(f"blob {self.digest}: it is no zstd frame: {error}") from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.digest:
            raise UsageError(f"blob {self.digest}: its content has the digest {digest}")
        # A frame of nothing is not looked into: what is kept of it is ours.
        return self if declared else Packed(self.digest, 0, _NOTHING)


async def arriving(chunks: AsyncIterator[BlobChunk]) -> AsyncIterator[Packed]:
    """Yield the blobs that a stream of chunks makes up. Raises UsageError where they do not."""
    begun: BlobChunk | None = None
    parts: list[bytes] = []
    length = 0
    async for chunk in chunks:
        if begun is None:
            _check(chunk)
            begun, parts, length = chunk, [], 0
        elif (chunk.digest, chunk.size) != (begun.digest, begun.size):
            raise UsageError(f"blob {begun.digest} broke off: a chunk of blob {chunk.digest[:64]!r} came instead")
        parts.append(chunk.zstd)
        length += len(chunk.zstd)
        if length > bound(begun.size):
            raise UsageError(f"blob {begun.digest}: more compressed bytes than {begun.size} bytes can need")
        if chunk.last:
            yield Packed(begun.digest, begun.size, b"".join(parts))
            begun = None
    if begun is not None:
        raise UsageError(f"blob {begun.digest} broke off: its last chunk did not come")


def pieces(packed: Packed) -> Iterator[BlobChunk]:
    """Yield a blob in chunks of at most 1 MiB."""
    for start in range(0, len(packed.frame), CHUNK):
        part = packed.frame[start : start + CHUNK]
        yield BlobChunk(digest=packed.digest, size=packed.size, zstd=part, last=start + CHUNK >= len(packed.frame))


def bound(size: int) -> int:
    """Return how long the zstd frame of `size` bytes can be (ZSTD_compressBound, and its header)."""
    return size + size // 128 + 1024


def _check(chunk: BlobChunk) -> None:
    try:
        check_digest(chunk.digest)
    except BadTree as error:
        raise UsageError(f"no blob has this name: {error.message}") from error
    if not 0 <= chunk.size <= LIMITS.file_bytes:
        raise UsageError(f"blob {chunk.digest}: {chunk.size} bytes, more than the {LIMITS.file_bytes} that may travel")
