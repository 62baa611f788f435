"""What nobody has used for long, in the folder of FileCodeStore: trees first, then the blobs that no tree has."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpu_api.v1.codeship_pb2 import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal came to."""

    trees: int
    blobs: int
    bytes: int


def remove_disused(folder: Path, before: float) -> Removed:
    """Remove trees that were used last before a moment (seconds of the epoch), and blobs that belong to none.

    A blob without a tree stays until it is as old: its tree may be on its way.
    """
    trees = 0
    for project in (folder / "projects").iterdir():
        trees += _remove_trees(project / "trees", folder / "trees", before)
        _let_go(project / "blobs", set(_named(project / "trees")), before)
    for tree in _files(folder / "trees"):
        if not any((project / "trees" / tree.name).exists() for project in (folder / "projects").iterdir()):
            tree.unlink()
    return Removed(trees, *_remove_blobs(folder / "blobs", before))


def _remove_trees(mine: Path, everybodys: Path, before: float) -> int:
    """Remove a project's trees that neither it nor a worker has used since; return how many."""
    removed = 0
    for tree in _files(mine):
        if max(_used(tree), _used(everybodys / tree.name)) < before:
            tree.unlink()
            removed += 1
    return removed


def _named(trees: Path) -> Iterator[str]:
    """Yield the blobs that a project's trees have."""
    for tree in _files(trees):
        for entry in Tree.FromString(tree.read_bytes()).entries:
            yield entry.digest


def _let_go(blobs: Path, needed: set[str], before: float) -> None:
    """Take from a project the blobs that it does not need."""
    for blob in _files(blobs):
        if blob.name not in needed and _used(blob) < before:
            blob.unlink()


def _remove_blobs(blobs: Path, before: float) -> tuple[int, int]:
    """Remove blobs of no project; return how many, and their bytes."""
    count, size = 0, 0
    for blob in _files(blobs):
        status = blob.stat()
        if status.st_nlink == 1 and status.st_mtime < before:
            blob.unlink()
            count, size = count + 1, size + status.st_size
    return count, size


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


def _used(file: Path) -> float:
    with suppress(FileNotFoundError):
        return file.stat().st_mtime
    return 0.0
