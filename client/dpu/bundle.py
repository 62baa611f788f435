"""The code that travels with a job: bundled from a checkout, shipped by content."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import grpc
import zstandard

from dpu.channel import CHUNK
from dpu.checkout import DENIED, find_checkout, listed, own_ignores, roots_of
from dpu.errors import BadTree
from dpu.status import from_rpc
from dpu.tree import LIMITS, Limits, check, check_path, check_sizes, digest_of
from dpu_api.v1.codeship_pb2 import (
    BlobChunk,
    FindMissingRequest,
    PutTreeRequest,
    Tree,
    TreeEntry,
    UploadBlobsRequest,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dpu_api.v1.codeship_pb2_grpc import CodeServiceStub

__all__ = ["Bundle", "Shipped", "bundle", "find_checkout", "ship"]

#: Seconds that a call may take; an upload gets more with every byte.
_PATIENCE_S = 30.0
_BYTES_PER_S = 100_000


@dataclass(frozen=True, slots=True)
class Bundle:
    """A tree that may travel."""

    tree: Tree
    digest: str
    #: Where the content of each digest lies.
    blobs: Mapping[str, Path]
    #: Files of the checkout's roots that stay behind, and why.
    left_out: Mapping[str, str]

    @property
    def description(self) -> str:
        """What it is, for a person: 'digest, git commit + N changed files'."""
        return self.tree.description


@dataclass(frozen=True, slots=True)
class Shipped:
    """What a shipment came to."""

    digest: str
    files: int
    #: Compressed bytes of content that travelled.
    bytes: int


def bundle(checkout: Path, *, home: Path | None = None, limits: Limits = LIMITS) -> Bundle:
    """Return the code of a checkout, every file hashed anew.

    Raises BadTree, which says what to do, for a tree that may not travel.
    """
    checkout = checkout.resolve()
    roots = roots_of(checkout)
    for root in roots:
        _check_root((checkout / root).resolve(), home or Path.home())
    listing = listed(checkout, roots)
    paths, left_out = _chosen(listing.paths, checkout)
    travelling = frozenset(paths)
    found = {_shipped_as(path, roots): _Found.at(checkout, path, travelling) for path in paths}
    if len(found) < len(paths):
        raise BadTree(f"two of the folders {', '.join(roots)} have the same name: only one can be imported")
    check_sizes([(path, each.size) for path, each in found.items()], limits)
    entries = [each.entry(path) for path, each in sorted(found.items())]
    check(entries, limits)
    digest = digest_of(entries)
    description = f"{digest[:12]}, {listing.history}" if listing.history else digest[:12]
    blobs = {entry.digest: found[entry.path].real for entry in entries}
    return Bundle(Tree(entries=entries, description=description), digest, blobs, left_out)


def ship(bundled: Bundle, stub: CodeServiceStub) -> Shipped:
    """Send what the service does not have of a bundle, and name its tree there. Raises DpuError."""
    upload = _Upload(bundled)
    try:
        missing = stub.FindMissing(FindMissingRequest(digests=bundled.blobs), timeout=_PATIENCE_S).digests
        if missing:
            sizes = {entry.digest: entry.size for entry in bundled.tree.entries}
            seconds = _PATIENCE_S + sum(sizes[digest] for digest in missing) / _BYTES_PER_S
            stub.UploadBlobs(upload.requests(missing), timeout=seconds)
            if upload.fault is not None:
                raise upload.fault
        named = stub.PutTree(PutTreeRequest(tree=bundled.tree), timeout=_PATIENCE_S)
    except grpc.RpcError as error:
        raise from_rpc(error, "code shipping") from error
    return Shipped(named.digest, len(missing), upload.bytes)


class _Upload:
    """Blobs on their way. gRPC reads them in a thread of its own, so a fault is kept for the caller."""

    def __init__(self, bundled: Bundle) -> None:
        self._bundled = bundled
        self._paths = {entry.digest: entry.path for entry in bundled.tree.entries}
        self._packer = zstandard.ZstdCompressor()
        self.bytes = 0
        self.fault: BadTree | None = None

    def requests(self, digests: Iterable[str]) -> Iterator[UploadBlobsRequest]:
        """Yield the blobs in chunks; end early, between two blobs, at one that cannot be sent."""
        for digest in digests:
            try:
                content = self._content(digest)
            except BadTree as fault:
                self.fault = fault
                return
            frame = self._packer.compress(content)
            self.bytes += len(frame)
            for start in range(0, len(frame), CHUNK):
                chunk = BlobChunk(digest=digest, size=len(content), zstd=frame[start : start + CHUNK])
                chunk.last = start + CHUNK >= len(frame)
                yield UploadBlobsRequest(chunk=chunk)

    def _content(self, digest: str) -> bytes:
        content = _read(self._bundled.blobs[digest], self._paths[digest])
        if hashlib.sha256(content).hexdigest() != digest:
            raise BadTree(f"{self._paths[digest]!r} was changed while it was being shipped: run it again")
        return content


@dataclass(frozen=True, slots=True)
class _Found:
    """A file that travels."""

    real: Path
    size: int
    mode: int

    @classmethod
    def at(cls, checkout: Path, path: str, travelling: frozenset[str]) -> _Found:
        """Look at a file of the checkout. Raises BadTree where it is none, or a link to what does not travel."""
        real = checkout / path
        try:
            status = real.lstat()
            if stat.S_ISLNK(status.st_mode):
                real = _target(checkout, path, travelling)
                status = real.stat()
        except OSError as error:
            raise BadTree(f"{path!r} cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(status.st_mode):
            raise BadTree(f"{path!r} is no file but {_kind(status.st_mode)}: name it in .dpuignore")
        return cls(real, status.st_size, 0o755 if status.st_mode & stat.S_IXUSR else 0o644)

    def entry(self, path: str) -> TreeEntry:
        """Return the file as an entry of a tree, hashed."""
        content = _read(self.real, path)
        return TreeEntry(path=path, mode=self.mode, size=len(content), digest=hashlib.sha256(content).hexdigest())


def _chosen(paths: Iterable[str], checkout: Path) -> tuple[list[str], dict[str, str]]:
    """Return which files travel, and why the others do not."""
    ignores = own_ignores(checkout)
    chosen: list[str] = []
    left_out: dict[str, str] = {}
    for path in paths:
        if DENIED.match_file(path):
            left_out[path] = "never travels: a secret, data, or made from something else"
        elif ignores.match_file(path):
            left_out[path] = "named in .dpuignore"
        else:
            chosen.append(path)
    return chosen, left_out


def _shipped_as(path: str, roots: Iterable[str]) -> str:
    """Return a file's path in the tree: relative to what goes on sys.path."""
    root = next(root for root in roots if path == root or path.startswith(f"{root}/"))
    shipped = str(PurePosixPath(path).relative_to(PurePosixPath(root).parent))
    check_path(shipped)
    return shipped


def _check_root(root: Path, home: Path) -> None:
    """Raise BadTree for a root that is, or holds, somebody's whole home."""
    if home.resolve().is_relative_to(root):
        raise BadTree(
            f"{root} holds your home: nothing was shipped; name the folders of your recipes in [tool.dpu] ship"
        )


def _target(checkout: Path, path: str, travelling: frozenset[str]) -> Path:
    """Return what a symbolic link leads to. Raises BadTree unless that travels too."""
    try:
        real = (checkout / path).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise BadTree(f"{path!r} is a symbolic link to nothing: name it in .dpuignore") from error
    inside = real.relative_to(checkout).as_posix() if real.is_relative_to(checkout) else ""
    if inside not in travelling:
        raise BadTree(
            f"{path!r} is a symbolic link to {str(real)!r}, which is no file of the tree: name it in .dpuignore"
        )
    return real


def _kind(mode: int) -> str:
    kinds = [
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISCHR, "a device"),
    ]
    return next((name for is_kind, name in kinds if is_kind(mode)), "something else")


def _read(real: Path, path: str) -> bytes:
    """Return a file's content, without what Python's buffered files cost with hundreds of them."""
    try:
        # Not followed, not waited for: it may have become a link or a pipe since it was looked at.
        file = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            size = os.fstat(file).st_size
            parts = [os.read(file, size + 1)]
            while parts[-1]:
                parts.append(os.read(file, CHUNK))
        finally:
            os.close(file)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadTree(f"{path!r} became a symbolic link while it was being read: run it again") from error
        raise BadTree(f"{path!r} cannot be read: {error.strerror}") from error
    return b"".join(parts)
