"""Code in a SQLite file: one commit keeps a whole upload, where a file a blob would cost the disk a hundred journeys.

Every blob is there once, as the frame that it came in; a project holds those that it put itself, and trees of its own.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from dpu.channel import MIB
from dpu.errors import InternalError, StorageFull
from dpud.codeship.blobs import Packed
from dpud.codeship.disused import Removed, remove_disused
from dpud.codeship.quota import QUOTA_MIB, check_quota
from dpud.codeship.store import unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

T = TypeVar("T")
#: What SQLite says of a disk that takes no more.
_FULL = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")
_SCHEMA = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS blob (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, frame BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS holding (
    project TEXT, digest TEXT, used REAL NOT NULL, PRIMARY KEY (project, digest)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tree (
    digest TEXT, project TEXT, used REAL NOT NULL, content BLOB NOT NULL, PRIMARY KEY (digest, project)
);
CREATE TABLE IF NOT EXISTS version (name TEXT PRIMARY KEY, content BLOB NOT NULL);
"""


class SqliteCodeStore:
    """Keeps code in a file of `folder`, which it alone may use; of each project at most `quota` bytes."""

    def __init__(self, folder: Path, quota: int = QUOTA_MIB * MIB, clock: Callable[[], float] = time.time) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = folder / "code.sqlite"
        self._quota = quota
        self._clock = clock
        # By project; counted when it is needed first.
        self._sizes: dict[str, int] = {}
        # When trees were asked for, by project and digest: written with what is written next, or when it is tidied.
        # To write it down at once would cost a journey to the disk for every look.
        self._uses: dict[tuple[str | None, str], float] = {}
        self._opened: list[sqlite3.Connection] = []
        self._own = threading.local()
        # One writer: two uploads of one blob do not meet.
        self._writer = ThreadPoolExecutor(1, "code-writer")
        self._readers = ThreadPoolExecutor(4, "code-reader")
        self._connection().executescript(_SCHEMA)

    def close(self) -> None:
        """Wait for what is being written, and let go of file and threads."""
        self._readers.shutdown()
        with suppress(sqlite3.Error):
            # Without it, some trees are a few hours older than they are.
            self._writer.submit(self._note_uses).result()
        self._writer.shutdown()
        for connection in self._opened:
            connection.close()

    async def sizes(self, project: str, digests: Iterable[str]) -> dict[str, int]:
        """Return the sizes of those blobs that the project has put."""
        return dict(await self._rows(_SIZES, project, json.dumps(list(digests))))

    async def put_blobs(self, project: str, blobs: Iterable[Packed]) -> None:
        """Keep blobs."""
        await self._run(self._writer, self._put, project, tuple(blobs), ())

    async def blob(self, project: str | None, digest: str) -> Packed:
        """Return a blob."""
        for size, frame in await self._rows(_BLOB, project, digest):
            return Packed(digest, size, frame)
        raise unknown("blob", digest)

    async def put_tree(self, project: str, digest: str, tree: bytes, blobs: Iterable[Packed] = ()) -> None:
        """Keep a tree, and blobs that came with it."""
        await self._run(self._writer, self._put, project, tuple(blobs), [(digest, tree)])

    async def tree(self, project: str | None, digest: str) -> bytes:
        """Return a tree, and remember that it was used."""
        for (content,) in await self._rows(_TREE, project, digest):
            self._uses[project, digest] = self._clock()
            found: bytes = content
            return found
        raise unknown("tree of code", digest)

    async def versions(self) -> dict[str, bytes]:
        """Return all versions."""
        return dict(await self._rows("SELECT name, content FROM version ORDER BY name", None, ""))

    async def put_version(self, name: str, version: bytes) -> None:
        """Keep a version."""
        await self._run(self._writer, self._change, "INSERT OR REPLACE INTO version VALUES (?, ?)", name, version)

    async def remove_version(self, name: str) -> None:
        """Remove a version."""
        await self._run(self._writer, self._change, "DELETE FROM version WHERE name = ?", name)

    async def remove_disused(self, before: float) -> Removed:
        """Remove what was used last before a moment, in seconds of the epoch."""
        return await self._run(self._writer, self._remove_disused, before)

    async def _rows(self, query: str, project: str | None, asked: str) -> list[Any]:
        values = {"project": project, "asked": asked}
        return await self._run(self._readers, lambda: self._connection().execute(query, values).fetchall())

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)
        except sqlite3.Error as error:
            if error.sqlite_errorname.startswith(_FULL):
                raise StorageFull(f"the disk of the code store is full ({error}): try again later") from error
            raise InternalError(f"the code store cannot be used: {error}") from error

    def _change(self, statement: str, *values: object) -> None:
        with self._writing() as connection:
            connection.execute(statement, values)

    def _note_uses(self) -> None:
        with self._writing():
            pass

    def _put(self, project: str, blobs: Sequence[Packed], trees: Sequence[tuple[str, bytes]]) -> None:
        """Keep blobs and trees in one commit, and with them what was used since the last."""
        now = self._clock()
        with self._writing() as connection:
            added = self._added(connection, project, blobs)
            connection.executemany(
                "INSERT OR IGNORE INTO blob VALUES (?, ?, ?)", [(each.digest, each.size, each.frame) for each in blobs]
            )
            connection.executemany(
                "INSERT OR REPLACE INTO holding VALUES (?, ?, ?)", [(project, each.digest, now) for each in blobs]
            )
            connection.executemany(
                "INSERT OR REPLACE INTO tree VALUES (?, ?, ?, ?)",
                [(digest, project, now, content) for digest, content in trees],
            )
        self._sizes[project] += added

    def _added(self, connection: sqlite3.Connection, project: str, blobs: Sequence[Packed]) -> int:
        """Return how many bytes these blobs add to a project. Raises Exhausted where it may not have so many."""
        if project not in self._sizes:
            self._sizes[project] = connection.execute(_TOTAL, [project]).fetchone()[0]
        sizes = {each.digest: each.size for each in blobs}
        asked = {"project": project, "asked": json.dumps(list(sizes))}
        added: int = sum(sizes.values()) - sum(size for _, size in connection.execute(_SIZES, asked))
        check_quota(self._sizes[project], added, self._quota)
        return added

    def _remove_disused(self, before: float) -> Removed:
        self._sizes.clear()
        with self._writing() as connection:
            removed = remove_disused(connection, before)
        # The disk has back what is free now. (`execute` would give back one page of it.)
        self._connection().executescript("PRAGMA incremental_vacuum")
        return removed

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Give a connection in a transaction, which is on the disk when the block has ended."""
        connection, uses = self._connection(), dict(self._uses)
        connection.execute("BEGIN IMMEDIATE")
        try:
            rows = [{"project": project, "digest": digest, "used": used} for (project, digest), used in uses.items()]
            connection.executemany(_USED, rows)
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            # A disk that is full has ended the transaction already.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        for key, used in uses.items():
            if self._uses.get(key) == used:
                del self._uses[key]

    def _connection(self) -> sqlite3.Connection:
        """Return this thread's connection."""
        if not hasattr(self._own, "connection"):
            # Closed by another thread, when this one is gone.
            self._own.connection = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False)
            self._own.connection.execute("PRAGMA synchronous = FULL")
            self._opened.append(self._own.connection)
        connection: sqlite3.Connection = self._own.connection
        return connection


_SIZES = """
SELECT holding.digest, size FROM holding JOIN blob USING (digest)
WHERE project = :project AND digest IN (SELECT value FROM json_each(:asked))
"""
_TOTAL = "SELECT coalesce(sum(size), 0) FROM holding JOIN blob USING (digest) WHERE project = ?"
_BLOB = """
SELECT size, frame FROM blob
WHERE digest = :asked AND (
    :project IS NULL OR EXISTS (SELECT 1 FROM holding WHERE project = :project AND digest = :asked)
)
"""
_TREE = """
SELECT content FROM tree WHERE digest = :asked AND (:project IS NULL OR project = :project) ORDER BY used DESC LIMIT 1
"""
#: A worker's use, of no project, keeps the tree for every project that has it.
_USED = """
UPDATE tree SET used = max(used, :used) WHERE digest = :digest AND (:project IS NULL OR project = :project)
"""
