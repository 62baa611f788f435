"""What of a checkout would travel, for a person: `dpu.show_code()`."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from dpu.bundle import bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dpu.bundle import Bundle


def described(checkout: Path | None) -> str:
    """Return what of a checkout would travel. Raises BadTree, as `dpu.run` would, for one that may not."""
    if checkout is None:
        return "There is no local checkout: jobs use the code of the cluster"
    return f"{checkout}\n{contents(bundle(checkout))}"


def contents(bundled: Bundle) -> str:
    """Return which files travel, with their sizes, and which stay behind and why."""
    return "\n".join([*_travelling(bundled), *_left_out(bundled)])


def _travelling(bundled: Bundle) -> Iterator[str]:
    entries = bundled.tree.entries
    total = sum(entry.size for entry in entries)
    yield f"{bundled.description}: {_count(len(entries))} of {total:,} bytes travel"
    for entry in entries:
        yield f"  {entry.size:>10,}  {entry.path}{' *' if entry.mode & 0o100 else ''}"


def _left_out(bundled: Bundle) -> Iterator[str]:
    by_reason = sorted(bundled.left_out.items(), key=lambda item: (item[1], item[0]))
    for reason, group in groupby(by_reason, key=lambda item: item[1]):
        paths = [path for path, _ in group]
        yield f"{_count(len(paths))} left behind, {reason}"
        yield from (f"  {path}" for path in paths)


def _count(number: int) -> str:
    return f"{number} file{'' if number == 1 else 's'}"
