"""The code that travels with a job: bundled from a checkout, shipped by content."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import zstandard

from dpu.channel import CHUNK
from dpu.checkout import find_checkout, is_denied, listed, own_ignores, roots_of
from dpu.errors import BadTree, MissingBlobs
from dpu.status import from_rpc
from dpu.tree import LIMITS, LOCK, Limits, check, check_path, check_sizes, digest_of
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
    # Packages are asked for beside the roots.
    travelling = (*roots, LOCK) if (checkout / LOCK).is_file() else roots
    with listed(checkout, travelling) as listing:
        paths, left_out = _chosen(listing.paths, checkout)
        found = _found(checkout, travelling, paths)
        check_sizes([(path, each.size) for path, each in found.items()], limits)
        entries = [each.entry(path) for path, each in sorted(found.items())]
        check(entries, limits)
        history = listing.history()
    digest = digest_of(entries)
    description = f"{digest[:12]}, {history}" if history else digest[:12]
    blobs = {entry.digest: found[entry.path].real for entry in entries}
    return Bundle(Tree(entries=entries, description=description), digest, blobs, left_out)


def ship(bundled: Bundle, stub: CodeServiceStub, there: set[str] | None = None) -> Shipped:
    """Name a bundle's tree at the service, after sending what it does not have. Raises DpuError.

    `there` is what the service is known to have, to which the bundle's content is added.
    """
    upload = _Upload(bundled, stub)
    known = set() if there is None else there
    new = [digest for digest in bundled.blobs if digest not in known] if known else []
    try:
        try:
            # A tree that was shipped before, the most frequent by far, or one that is known to differ by a few small
            # files, takes this one call.
            named = upload.send(new) if new else upload.name()
        except MissingBlobs:
            asked = FindMissingRequest(digests=bundled.blobs)
            named = upload.send(stub.FindMissing(asked, timeout=_PATIENCE_S).digests)
    except grpc.RpcError as error:
        raise from_rpc(error, "code shipping") from error
    known.update(bundled.blobs)
    return Shipped(named, upload.files, upload.bytes)


class _Upload:
    """Blobs on their way. gRPC reads them in a thread of its own, so a fault is kept for the caller."""

    def __init__(self, bundled: Bundle, stub: CodeServiceStub) -> None:
        self._bundled = bundled
        self._stub = stub
        self._entries = {entry.digest: entry for entry in bundled.tree.entries}
        self._packer = zstandard.ZstdCompressor()
        self.files = 0
        self.bytes = 0
        self._fault: BadTree | None = None

    def name(self, blobs: Iterable[BlobChunk] = ()) -> str:
        """Name the tree, with blobs that go along; return its digest. Raises MissingBlobs."""
        request = PutTreeRequest(tree=self._bundled.tree, blobs=blobs)
        try:
            return self._stub.PutTree(request, timeout=_PATIENCE_S).digest
        except grpc.RpcError as error:
            raise from_rpc(error, "code shipping") from error

    def send(self, digests: Sequence[str]) -> str:
        """Send blobs, and name the tree: in one call where they are few. Raises BadTree where a file has changed."""
        messages = self._messages(digests)
        first = next(messages, [])
        if (second := next(messages, None)) is None:
            self._check()
            return self.name(first)
        seconds = _PATIENCE_S + sum(self._entries[digest].size for digest in digests) / _BYTES_PER_S
        requests = (UploadBlobsRequest(chunk=head, more=more) for head, *more in chain([first, second], messages))
        self._stub.UploadBlobs(requests, timeout=seconds)
        self._check()
        return self.name()

    def _check(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _messages(self, digests: Iterable[str]) -> Iterator[list[BlobChunk]]:
        """Yield the blobs in chunks, as many together as a message may hold."""
        waiting: list[BlobChunk] = []
        size = 0
        for chunk in self._chunks(digests):
            if size + len(chunk.zstd) > CHUNK:
                yield waiting
                waiting, size = [], 0
            waiting.append(chunk)
            size += len(chunk.zstd)
        if waiting:
            yield waiting

    def _chunks(self, digests: Iterable[str]) -> Iterator[BlobChunk]:
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
                part, last = frame[start : start + CHUNK], start + CHUNK >= len(frame)
                yield BlobChunk(digest=digest, size=len(content), zstd=part, last=last)

    def _content(self, digest: str) -> bytes:
        entry = self._entries[digest]
        content = _read(self._bundled.blobs[digest], entry.path, entry.size)
        if hashlib.sha256(content).hexdigest() != digest:
            raise BadTree(f"{entry.path!r} was changed while it was being shipped: run it again")
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
        content = _read(self.real, path, self.size)
        return TreeEntry(path=path, mode=self.mode, size=len(content), digest=hashlib.sha256(content).hexdigest())


def _found(checkout: Path, roots: Sequence[str], paths: Sequence[str]) -> dict[str, _Found]:
    """Return the files that are there, by their paths in the tree. Raises BadTree where two would be one."""
    travelling = frozenset(paths)
    looked = [(_shipped_as(path, roots), _Found.at(str(checkout), path, travelling)) for path in paths]
    if len({path for path, _ in looked}) < len(paths):
        raise BadTree(f"two of the folders {', '.join(roots)} have the same name: only one can be imported")
    return {path: each for path, each in looked if each is not None}


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


def _read(real: str, path: str, size: int) -> bytes:
    """Return a file's content, which has about `size` bytes."""
    try:
        # System calls: with hundreds of small files, making a file object of each takes longer than reading it; and
        # so does memory for much more than there is.
        descriptor = os.open(real, _OPEN)
        try:
            content = piece = os.read(descriptor, size + 1)
            while len(piece) > size:
                piece = os.read(descriptor, size + 1)
                content += piece
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BadTree(f"{path!r} cannot be read: {error.strerror}") from error
    return content
