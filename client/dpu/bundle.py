"""The code that travels with a job: bundled from a checkout, shipped by content."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import zstandard

from dpu.channel import CHUNK
from dpu.checkout import find_checkout, is_denied, listed, own_ignores, roots_of
from dpu.errors import BadTree, MissingBlobs
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
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from dpu_api.v1.codeship_pb2_grpc import CodeServiceStub

__all__ = ["Bundle", "Shipped", "bundle", "find_checkout", "ship"]

#: Seconds that a call may take; an upload gets more with every byte.
_PATIENCE_S = 30.0
_BYTES_PER_S = 100_000
#: Open a file, and nothing that it may have become since it was looked at: no link, no pipe to wait for.
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """A tree that may travel."""

    tree: Tree
    digest: str
    #: Where the content of each digest lies.
    blobs: Mapping[str, str]
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
    looked = [(_shipped_as(path, roots), _Found.at(str(checkout), path, travelling)) for path in paths]
    found = {path: each for path, each in looked if each is not None}
    if len({path for path, _ in looked}) < len(paths):
        raise BadTree(f"two of the folders {', '.join(roots)} have the same name: only one can be imported")
    check_sizes([(path, each.size) for path, each in found.items()], limits)
    entries = [each.entry(path) for path, each in sorted(found.items())]
    check(entries, limits)
    digest = digest_of(entries)
    description = f"{digest[:12]}, {listing.history}" if listing.history else digest[:12]
    blobs = {entry.digest: found[entry.path].real for entry in entries}
    return Bundle(Tree(entries=entries, description=description), digest, blobs, left_out)


def ship(bundled: Bundle, stub: CodeServiceStub) -> Shipped:
    """Name a bundle's tree at the service, after sending what it does not have. Raises DpuError."""
    upload = _Upload(bundled)
    try:
        try:
            # A tree that was shipped before, the most frequent by far, takes this one call.
            named = _put(bundled, stub)
        except MissingBlobs:
            asked = FindMissingRequest(digests=bundled.blobs)
            upload.send(stub.FindMissing(asked, timeout=_PATIENCE_S).digests, stub)
            named = _put(bundled, stub)
    except grpc.RpcError as error:
        raise from_rpc(error, "code shipping") from error
    return Shipped(named, upload.files, upload.bytes)


def _put(bundled: Bundle, stub: CodeServiceStub) -> str:
    try:
        return stub.PutTree(PutTreeRequest(tree=bundled.tree), timeout=_PATIENCE_S).digest
    except grpc.RpcError as error:
        raise from_rpc(error, "code shipping") from error


class _Upload:
    """Blobs on their way. gRPC reads them in a thread of its own, so a fault is kept for the caller."""

    def __init__(self, bundled: Bundle) -> None:
        self._bundled = bundled
        self._paths = {entry.digest: entry.path for entry in bundled.tree.entries}
        self._packer = zstandard.ZstdCompressor()
        self.files = 0
        self.bytes = 0
        self._fault: BadTree | None = None

    def send(self, digests: Sequence[str], stub: CodeServiceStub) -> None:
        """Send blobs. Raises BadTree where a file is no longer what was bundled."""
        sizes = {entry.digest: entry.size for entry in self._bundled.tree.entries}
        seconds = _PATIENCE_S + sum(sizes[digest] for digest in digests) / _BYTES_PER_S
        stub.UploadBlobs(self._requests(digests), timeout=seconds)
        if self._fault is not None:
            raise self._fault

    def _requests(self, digests: Iterable[str]) -> Iterator[UploadBlobsRequest]:
        """Yield the blobs in chunks; end early, between two blobs, at one that cannot be sent."""
        for digest in digests:
            try:
                content = self._content(digest)
            except BadTree as fault:
                self._fault = fault
                return
            frame = self._packer.compress(content)
            self.files += 1
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

    real: str
    size: int
    mode: int

    @classmethod
    def at(cls, checkout: str, path: str, travelling: frozenset[str]) -> _Found | None:
        """Look at a file of the checkout; None where it is there no more.

        Raises BadTree where it is no file, or a link to what does not travel.
        """
        # Strings, here and below: with hundreds of files, making a Path of each takes longer than reading it.
        real = f"{checkout}/{path}"
        try:
            status = os.lstat(real)
            if stat.S_ISLNK(status.st_mode):
                real = _target(Path(checkout), path, travelling)
                status = os.lstat(real)
        except FileNotFoundError:
            return None
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
        if is_denied(path):
            left_out[path] = "never travels: a secret, data, or made from something else"
        elif ignores.patterns and ignores.match_file(path):
            left_out[path] = "named in .dpuignore"
        else:
            chosen.append(path)
    return chosen, left_out


def _shipped_as(path: str, roots: Iterable[str]) -> str:
    """Return a file's path in the tree: relative to what goes on sys.path."""
    root = next(root for root in roots if path == root or path.startswith(f"{root}/"))
    shipped = path[root.rfind("/") + 1 :]
    if not shipped.isascii():
        # A message has no place for a name that is not UTF-8; everything else is checked with the tree.
        check_path(shipped)
    return shipped


def _check_root(root: Path, home: Path) -> None:
    """Raise BadTree for a root that is, or holds, somebody's whole home."""
    if home.resolve().is_relative_to(root):
        raise BadTree(
            f"{root} holds your home: nothing was shipped; name the folders of your recipes in [tool.dpu] ship"
        )


def _target(checkout: Path, path: str, travelling: frozenset[str]) -> str:
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
    return str(real)


def _kind(mode: int) -> str:
    kinds = [
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISCHR, "a device"),
    ]
    return next((name for is_kind, name in kinds if is_kind(mode)), "something else")


def _read(real: str, path: str) -> bytes:
    """Return a file's content."""
    try:
        # System calls: with hundreds of small files, making a file object of each takes longer than reading it.
        descriptor = os.open(real, _OPEN)
        try:
            content = piece = os.read(descriptor, _PIECE)
            while len(piece) == _PIECE:
                piece = os.read(descriptor, _PIECE)
                content += piece
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BadTree(f"{path!r} cannot be read: {error.strerror}") from error
    return content
