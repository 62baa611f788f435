"""Trees of code: their digest, and every check that one must pass before it travels and before it is kept.

Client and service use the same checks, the client to say at once what is wrong, the service because a tree
may come from anybody.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from dpu.errors import BadTree

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dpu_api.v1.codeship_pb2 import TreeEntry

MIB = 1024 * 1024
#: At the top of a tree: packages that its tasks need beside those of the recipes.
LOCK = "requirements.lock"
MODES = (0o644, 0o755)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SPECIAL = frozenset({"", ".", ".."})
_LONGEST_PATH = 1024
_LONGEST_NAME = 255
#: How many files a message about a tree that is too large names.
_NAMED = 10


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a tree may be."""

    files: int = 20_000
    file_bytes: int = 16 * MIB
    tree_bytes: int = 256 * MIB


LIMITS = Limits()


def digest_of(entries: Iterable[TreeEntry]) -> str:
    """Return a tree's digest: the SHA-256 of its sorted lines '<mode, octal> <size> <digest> <path>'."""
    ordered = sorted(entries, key=lambda entry: entry.path)
    lines = [f"{entry.mode:o} {entry.size} {entry.digest} {entry.path}\n" for entry in ordered]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check(entries: Sequence[TreeEntry], limits: Limits = LIMITS) -> None:
    """Raise BadTree, naming the entry and the reason, unless a tree of these entries may travel."""
    check_sizes([(entry.path, entry.size) for entry in entries], limits)
    for entry in entries:
        check_path(entry.path)
        check_digest(entry.digest)
        if entry.mode not in MODES:
            raise BadTree(f"{entry.path!r}: mode {entry.mode:o} is neither 644 nor 755")
    _check_twins([entry.path for entry in entries])


def check_sizes(files: Sequence[tuple[str, int]], limits: Limits = LIMITS) -> None:
    """Raise BadTree, naming the ten largest, where files (path, size) are too many or too large."""
    if not files:
        raise BadTree("the tree is empty: there is no code in it to ship")
    total = sum(size for _, size in files)
    largest = max(size for _, size in files)
    if min(size for _, size in files) < 0:
        raise BadTree("a file has less than no bytes")
    if len(files) > limits.files:
        problem = f"the tree has {len(files)} files, more than the {limits.files} that may travel"
    elif largest > limits.file_bytes:
        problem = f"a file has more than the {_mib(limits.file_bytes)} that may travel"
    elif total > limits.tree_bytes:
        problem = f"the tree has {_mib(total)}, more than the {_mib(limits.tree_bytes)} that may travel"
    else:
        return
    ranked = sorted(files, key=lambda file: (-file[1], file[0]))[:_NAMED]
    listed = "\n".join(f"  {_mib(size):>12}  {path}" for path, size in ranked)
    raise BadTree(f"{problem}; leave files out by naming them in .dpuignore. The largest:\n{listed}")


def check_digest(digest: str) -> None:
    """Raise BadTree unless this is a SHA-256 in lower-case hexadecimal."""
    if not _DIGEST.fullmatch(digest):
        raise BadTree(f"{digest[:80]!r} is not a SHA-256 in lower-case hexadecimal")


def check_path(path: str) -> None:
    """Raise BadTree unless the path is relative, normal, and the same on every file system."""
    reason = _fault(path)
    if reason:
        raise BadTree(f"{path[:200]!r}: {reason}")


def _fault(path: str) -> str:
    """Return what is wrong with a path, or nothing."""
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        return "the name is not UTF-8"
    if length > _LONGEST_PATH:
        return f"the path has {length} bytes, more than {_LONGEST_PATH}"
    if _CONTROL.search(path):
        return "a control character (NUL, a newline, ...) is in it"
    if "\\" in path:
        return "a backslash is in it"
    if path.startswith("/"):
        return "it is absolute"
    names = path.split("/")
    if not _SPECIAL.isdisjoint(names):
        return "it is empty, or has an empty part, '.' or '..' in it"
    if length > _LONGEST_NAME and any(len(name.encode()) > _LONGEST_NAME for name in names):
        return f"a name in it has more than {_LONGEST_NAME} bytes"
    return ""


def _check_twins(paths: Sequence[str]) -> None:
    """Raise BadTree where two paths are one on some file system, or one is a file and a folder."""
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        if (twin := files.setdefault(_folded(path), path)) != path:
            raise BadTree(f"{path!r}: differs from {twin!r} only in case or in how its letters are composed")
    if len(files) < len(paths):
        raise BadTree(f"{_repeated(paths)!r}: is there twice")
    for folder in {path[:end] for path in paths for end in _slashes(path)}:
        if (twin := folders.setdefault(_folded(folder), folder)) != folder:
            raise BadTree(f"{folder!r}: differs from {twin!r} only in case or in how its letters are composed")
        if _folded(folder) in files:
            raise BadTree(f"{folder!r}: is a file and a folder")


def _slashes(path: str) -> list[int]:
    return [at for at, letter in enumerate(path) if letter == "/"]


def _repeated(paths: Sequence[str]) -> str:
    ordered = sorted(paths)
    return next(path for path, after in pairwise(ordered) if path == after)


def _folded(path: str) -> str:
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _mib(size: int) -> str:
    return f"{size / MIB:.1f} MiB" if size >= MIB // 10 else f"{size} bytes"
