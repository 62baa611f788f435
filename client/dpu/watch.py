"""`awe ingest --watch`: brings in what appears in folders, when it is whole."""

from __future__ import annotations

import time
from collections import Counter
from stat import S_ISREG
from typing import TYPE_CHECKING, NamedTuple

from dpu.errors import Exhausted, Unreachable, UsageError
from dpu.ingest import SUFFIXES, ingest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from dpu.ingest import Outcome
    from dpu.link import Link
    from dpu.report import Reporter

#: Between two looks: whoever writes a file more slowly than this is waited for.
PAUSE_S = 2.0


class Look(NamedTuple):
    """What a file was like at one look."""

    size: int
    changed_ns: int


class Folders:
    """Folders, and which of their FITS files have been dealt with. They are polled, so any file system does."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = list(paths)
        self._before: dict[Path, Look] = {}
        self._settled: dict[Path, Look] = {}
        for path in self._paths:
            if not path.is_dir():
                raise UsageError(f"{str(path)!r} is no folder: only folders are watched")

    def whole(self) -> list[Path]:
        """Return the files that are as they were at the look before, and were not dealt with as they are."""
        now = dict(self._look())
        whole = [path for path, look in now.items() if self._before.get(path) == look != self._settled.get(path)]
        self._before = now
        return sorted(whole)

    def settle(self, path: Path) -> None:
        """Note that a file has been dealt with, until it changes."""
        if path in self._before:
            self._settled[path] = self._before[path]

    def _look(self) -> Iterator[tuple[Path, Look]]:
        for folder in self._paths:
            for path in folder.rglob("*"):
                if path.name.lower().endswith(SUFFIXES):
                    try:
                        found = path.stat()
                    except FileNotFoundError:
                        continue  # it was there a moment ago: one that is renamed when it is whole
                    if S_ISREG(found.st_mode):
                        yield path, Look(found.st_size, found.st_mtime_ns)


def watch(
    link: Link,
    paths: Sequence[Path],
    reporter: Reporter,
    *,
    instrument: str = "",
    sleep: Callable[[float], object] = time.sleep,
) -> int:
    """Bring in what appears until Ctrl-C, and return the exit code: 1 where a file was refused.

    An archive that is away or full is waited for. Raises UsageError for what is no folder, NotAllowed.
    """
    folders = Folders(paths)
    counts: Counter[str] = Counter()

    def done(outcome: Outcome) -> None:
        folders.settle(outcome.path)
        word = "refused" if outcome.reason else "already there" if outcome.already else "taken"
        counts[word] += 1
        reporter.say(f"{outcome.path.name}: {word}{f': {outcome.reason}' * bool(outcome.reason)}")

    reporter.say(f"Watching {', '.join(map(str, paths))}; Ctrl-C ends it")
    try:
        while True:
            if whole := folders.whole():
                try:
                    ingest(link, whole, done, instrument=instrument)
                except (Unreachable, Exhausted) as error:
                    reporter.say(f"{error.message} (trying again)")
            sleep(PAUSE_S)
    except KeyboardInterrupt:
        told = (f"{counts[word]} {word}" for word in ("taken", "already there", "refused"))
        reporter.say(", ".join(told))
    return 1 if counts["refused"] else 0
