"""What nobody has used for long, in the database of SqliteCodeStore: trees first, then the blobs that no tree has."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpu_api.v1.codeship_pb2 import Tree, Version

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal came to."""

    trees: int
    blobs: int
    bytes: int


def remove_disused(connection: sqlite3.Connection, before: float) -> Removed:
    """Remove trees that were used last before a moment (seconds of the epoch), and blobs that belong to none.

    The trees of versions stay. A blob without a tree stays until it is as old: its tree may be on its way.
    """
    kept = json.dumps(
        [Version.FromString(each).digest for (each,) in connection.execute("SELECT content FROM version")]
    )
    old = "DELETE FROM tree WHERE used < ? AND digest NOT IN (SELECT value FROM json_each(?))"
    trees = connection.execute(old, [before, kept]).rowcount
    for (project,) in connection.execute("SELECT DISTINCT project FROM holding WHERE used < ?", [before]).fetchall():
        _let_go(connection, project, before)
    disused = "FROM blob WHERE digest NOT IN (SELECT digest FROM holding)"
    blobs, size = connection.execute(f"SELECT count(*), coalesce(sum(size), 0) {disused}").fetchone()
    connection.execute(f"DELETE {disused}")
    return Removed(trees, blobs, size)


def _let_go(connection: sqlite3.Connection, project: str, before: float) -> None:
    """Take from a project the old blobs that none of its trees has."""
    old = "SELECT digest FROM holding WHERE project = ? AND used < ?"
    held = {digest for (digest,) in connection.execute(old, [project, before])}
    held.difference_update(_named(connection, project))
    rows = [(project, digest) for digest in held]
    connection.executemany("DELETE FROM holding WHERE project = ? AND digest = ?", rows)


def _named(connection: sqlite3.Connection, project: str) -> Iterator[str]:
    """Yield the blobs that a project's trees have."""
    for (content,) in connection.execute("SELECT content FROM tree WHERE project = ?", [project]):
        for entry in Tree.FromString(content).entries:
            yield entry.digest
