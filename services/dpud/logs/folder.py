"""The folder of one job: how its files are named, found, joined and marked.

000007-00000000000000012345.log           records as they came, appended to
000000-00000000000000000000-000006.pack   the files 0 to 6, sealed
ended-4                                   the job ended in state 4 and was sealed
"""

from __future__ import annotations

import os
import re
from pathlib import Path  # noqa: TC003 (a field of a NamedTuple)
from typing import TYPE_CHECKING, NamedTuple

from dpud.logs.pack import FileSource, Pack, PackWriter
from dpud.logs.segment import Segment, sync_folder
from dpud.logs.store import Held
from dpud.logs.stretch import everything

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = re.compile(r"(\d{6})-(\d{20})(?:-(\d{6})\.pack|\.log)")


class Named(NamedTuple):
    """A stretch of records and the file in which it lies."""

    path: Path
    stretch: Segment | Pack

    @property
    def first(self) -> int:
        """The number of the oldest file that is in it."""
        return int(self.path.name[:6])

    @property
    def last(self) -> int:
        """The number of the newest file that is in it."""
        return int(self.path.stem[-6:]) if self.path.suffix == ".pack" else self.first

    @staticmethod
    def open_path(folder: Path, number: int, start: int) -> Path:
        """Return the path of a new file."""
        return folder / f"{number:06d}-{start:020d}.log"


def found(folder: Path) -> list[Named]:
    """Return the files of a job in order; segments are not looked into yet.

    Files that are in a pack already are what a crash left of its making: they are removed.
    """
    for unfinished in folder.glob("*.new"):
        unfinished.unlink(missing_ok=True)
    files: list[Named] = []
    for each in sorted(
        (Named(path, _unread(path)) for path in folder.glob("*-*") if _NAME.fullmatch(path.name)), key=_widest_first
    ):
        if files and each.first <= files[-1].last:
            each.path.unlink(missing_ok=True)
        else:
            files.append(each)
    return files


def _unread(path: Path) -> Segment | Pack:
    if path.suffix == ".pack":
        return Pack.open(FileSource(path, path.stat().st_size))
    start = int(path.stem[-20:])
    return Segment(path, start, start)


def _widest_first(file: Named) -> tuple[int, int, bool]:
    """Return what sorts files by number, and of those that begin alike first the one that holds the others."""
    return file.first, -file.last, file.path.suffix != ".pack"


def join(run: Sequence[Named]) -> Named:
    """Make one pack of files that follow each other, which stay for the caller to remove. Raises OSError."""
    first, last = run[0], run[-1]
    path = first.path.with_name(f"{first.first:06d}-{first.stretch.start:020d}-{last.last:06d}.pack")
    fresh = path.with_suffix(".new")
    try:
        with fresh.open("wb") as file:
            writer = PackWriter(file.write, first.stretch.start)
            for each in run:
                for record, _ in everything(each.stretch):
                    writer.add(record)
            writer.close()
            file.flush()
            os.fsync(file.fileno())
        # Age counts from the last line, not from the sealing.
        newest = last.path.stat().st_mtime_ns
        os.utime(fresh, ns=(newest, newest))
        fresh.rename(path)
        sync_folder(path.parent)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return Named(path, Pack.open(FileSource(path, path.stat().st_size)))


def mark_ended(folder: Path, state: int) -> None:
    """Note on the disk how a job ended."""
    if folder.is_dir():
        (folder / f"ended-{state}").touch(mode=0o600)


def ages(folder: Path) -> dict[int, Held]:
    """Return what is held below the folder of all jobs."""
    return {int(path.name): _held(path) for path in folder.iterdir() if path.name.isdigit()}


def _held(path: Path) -> Held:
    last, ended = 0.0, None
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("ended-"):
                ended = int(entry.name.removeprefix("ended-"))
            elif not entry.name.endswith(".new"):  # being made of others, which are as old as it will be
                last = max(last, entry.stat().st_mtime)
    return Held(last, ended)
