"""The code of a job beside the recipes that are installed here: which files differ, and how."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zstandard

from dpu.errors import DpuError, UsageError
from dpu_api.v1.codeship_pb2 import DownloadBlobsRequest, GetTreeRequest
from dpud.web.calls import DEADLINE_S, answered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dpu_api.v1.codeship_pb2 import Tree, TreeEntry
    from dpud.web.visitors import Services

#: Of what differs: so many files are looked into, so large ones, so many lines are shown in all.
MOST_FILES, MOST_BYTES, MOST_LINES = 50, 256 << 10, 2000
PACKAGE = "dpu_recipes"


@dataclass(frozen=True, slots=True)
class Change:
    """A file of a job's code that differs from the installed one."""

    path: str
    #: 'changed', 'added', 'removed'.
    kind: str
    #: Of its content; '' of one that was removed.
    digest: str
    size: int
    #: The installed one; None where there is none.
    here: Path | None


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a difference."""

    #: 'added', 'removed', 'place', or '' of one that is the same.
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What became of a file."""

    change: Change
    lines: tuple[Line, ...]


async def tree_of(services: Services, digest: str) -> Tree:
    """Return a job's code, by its digest. Raises DpuError."""
    if services.code is None:
        raise UsageError("this page does not know where code is kept: its operator can set DPU_CODE")
    answer = await answered(services.code.GetTree(GetTreeRequest(digest=digest), timeout=DEADLINE_S))
    tree: Tree = answer.tree
    return tree


async def description_of(services: Services, digest: str) -> str:
    """Return what a job's code is in a line, or the beginning of its digest where nobody tells more."""
    try:
        return (await tree_of(services, digest)).description if digest else ""
    except DpuError:
        return digest[:12]


def changes(entries: Iterable[TreeEntry]) -> list[Change]:
    """Return what differs from the recipes that are installed here, by path."""
    ours = dict(_installed())
    found = []
    for entry in entries:
        here = ours.pop(_below(entry.path), None)
        if here is None or here[1] != entry.digest:
            kind = "changed" if here else "added"
            found.append(Change(entry.path, kind, entry.digest, entry.size, here[0] if here else None))
    found += [Change(name, "removed", "", 0, path) for name, (path, _) in ours.items()]
    return sorted(found, key=lambda change: change.path)


async def differences(services: Services, found: Iterable[Change]) -> list[Difference]:
    """Return the lines that differ of files that are not too many, too large, or no text."""
    looked = [change for change in found if change.digest and change.size <= MOST_BYTES][:MOST_FILES]
    contents = await _contents(services, sorted({change.digest for change in looked}))
    left, differing = MOST_LINES, []
    for change in looked:
        lines = tuple(_lines(change, contents.get(change.digest, b"")))[:left]
        left -= len(lines)
        if lines:
            differing.append(Difference(change, lines))
    return differing


async def _contents(services: Services, digests: list[str]) -> Mapping[str, bytes]:
    """Return blobs by digest."""
    frames: dict[str, bytearray] = {}
    if services.code is not None and digests:
        code: Any = services.code  # the stub's types know the synchronous channel
        async for answer in code.DownloadBlobs(DownloadBlobsRequest(digests=digests), timeout=DEADLINE_S):
            frames.setdefault(answer.chunk.digest, bytearray()).extend(answer.chunk.zstd)
    unpacker = zstandard.ZstdDecompressor(max_window_size=MOST_BYTES)
    return {digest: unpacker.decompress(bytes(frame), max_output_size=MOST_BYTES) for digest, frame in frames.items()}


def _lines(change: Change, content: bytes) -> Iterator[Line]:
    try:
        after = content.decode().splitlines()
        before = change.here.read_text().splitlines() if change.here else []
    except (OSError, UnicodeDecodeError):
        return
    for text in list(difflib.unified_diff(before, after, lineterm=""))[2:]:
        yield Line({"+": "added", "-": "removed", "@": "place"}.get(text[:1], ""), text)


@cache
def _installed() -> Mapping[str, tuple[Path, str]]:
    """Return the files of the installed recipes with their digests, by path from the package on."""
    spec = find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return {
        f"{PACKAGE}/{path.relative_to(folder).as_posix()}": (path, hashlib.sha256(path.read_bytes()).hexdigest())
        for folder in map(Path, folders)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent.name != "__pycache__"
    }


def _below(path: str) -> str:
    """Return a path from the package on."""
    _, package, rest = f"/{path}".partition(f"/{PACKAGE}/")
    return f"{PACKAGE}/{rest}" if package else path
