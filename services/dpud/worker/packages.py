"""Packages that a shipped tree asks for beside the recipes' own, in `requirements.lock` at its top, as a folder.

Made by the agent, which has the network; uv installs wheels only, so that nothing of a package runs before a task
imports it. The folder goes last on a task's sys.path: it adds packages, and takes the place of none.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, STDOUT
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dpu.errors import BadTree, Unreachable
from dpu.packages import missing, not_installed, pins
from dpu.tree import LOCK
from dpud.hosting.children import send_signal
from dpud.worker.folders import remove
from dpud.worker.shelf import Shelf, by_use

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from dpu.packages import Pin

INSTALL_S = 900.0
#: How uv begins to say that an index does not answer.
_AWAY = ("Failed to fetch", "error sending request", "Request failed")
#: Lines of uv's that go into a message.
_TOLD = 6


class Packages:
    """Folders of packages by what is asked for, kept as long as there is room."""

    def __init__(self, folder: Path, capacity: int, source: str | None) -> None:
        """`source` is an index's URL or a folder of wheels; None: nothing is installed."""
        self._folder = folder
        self._source = source
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        for broken in folder.glob(".*"):
            remove(broken)
        there = by_use(folder, "[0-9a-f]*", _size_of)
        self._shelf = Shelf(capacity, lambda key: remove(folder / key), there)

    @asynccontextmanager
    async def holding(self, tree: Path) -> AsyncIterator[Path | None]:
        """Give the folder of what a tree asks for, kept during the block; None where it asks for nothing more.

        Raises BadTree where it cannot be had, Unreachable where the index does not answer.
        """
        wanted = missing(pins(tree))
        if not wanted:
            yield None
            return
        if self._source is None:
            raise not_installed(wanted)
        key = _key(wanted)
        async with self._shelf.holding(key, lambda: self._make(key, wanted, str(self._source))):
            path = self._folder / key
            os.utime(path)
            yield path

    async def _make(self, key: str, wanted: Sequence[Pin], source: str) -> int:
        """Install beside its place and move it there: a half one is never seen."""
        made = Path(tempfile.mkdtemp(prefix=".", dir=self._folder))
        try:
            await _install(made, wanted, source)
            size = await asyncio.to_thread(_seal, made, self._folder / key)
        except BaseException:
            remove(made)
            raise
        return size


def _key(wanted: Sequence[Pin]) -> str:
    """Return the digest of what is asked for, by this Python."""
    lines = sorted(pin.line for pin in wanted)
    return hashlib.sha256("\n".join([sys.implementation.cache_tag or "", *lines]).encode()).hexdigest()


async def _install(folder: Path, wanted: Sequence[Pin], source: str) -> None:
    """Have uv install packages into a folder. Raises BadTree, Unreachable."""
    lock = folder.with_name(f"{folder.name}.lock")
    lock.write_text("".join(f"{pin.line}\n" for pin in wanted))
    try:
        status, said = await _told(
            *(uv(), "pip", "install", "--quiet", "--no-config", "--no-cache", "--no-progress", "--no-python-downloads"),
            *("--python", sys.executable, "--target", str(folder), "--no-deps", "--only-binary", ":all:"),
            *("--compile-bytecode", "--link-mode", "copy", "--requirements", str(lock)),
            *(["--require-hashes"] if any(pin.hashed for pin in wanted) else []),
            *(["--no-index", "--find-links", source] if source.startswith("/") else ["--default-index", source]),
        )
    finally:
        lock.unlink()
    if status:
        reason = f"{LOCK} cannot be installed from {source}: {' '.join(said.split())}"
        raise Unreachable(reason) if any(sign in said for sign in _AWAY) else BadTree(reason)


async def _told(*command: str) -> tuple[int, str]:
    """Return the exit code of a command, and the first lines of what it said."""
    child = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=STDOUT)
    try:
        async with asyncio.timeout(INSTALL_S):
            said, _ = await child.communicate()
    except TimeoutError:
        return 1, f"it took longer than {INSTALL_S:.0f} s"
    finally:
        send_signal(child, signal.SIGKILL)
        await child.wait()
    return await child.wait(), "\n".join(said.decode(errors="replace").splitlines()[:_TOLD])


def uv() -> str:
    """Return where uv is. Raises FileNotFoundError where it is not installed."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise FileNotFoundError("uv is not installed: pip install 'dpu[packages]'")
    return found


def _seal(folder: Path, place: Path) -> int:
    """Have a folder to be read only, by its group too, as tasks next door do; move it to its place; return its size."""
    size = 0
    for found in _below(folder):
        status = found.stat()
        found.chmod(0o555 if found.is_dir() or status.st_mode & 0o100 else 0o444)
        size += status.st_size
    folder.chmod(0o755)
    folder.rename(place)
    place.chmod(0o555)
    return size


def _size_of(folder: Path) -> int:
    return sum(place.lstat().st_size for place in _below(folder))


def _below(folder: Path) -> Iterator[Path]:
    return (place for place in folder.rglob("*") if not place.is_symlink())
