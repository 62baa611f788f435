"""How fast exposures come into the archive, frames to a task, answers to `run`, and a second run to its end."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.archive import fetch, ingest, queries, rerun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.figure import Figure


def figures() -> Iterator[Figure]:
    """Measure ingest, fetch and queries, on a real disk: what is in memory needs no flushing."""
    disk = Path("build/bench")
    disk.mkdir(parents=True, exist_ok=True)
    for part in (ingest, fetch, queries, rerun):
        with tempfile.TemporaryDirectory(dir=disk.absolute()) as folder:
            yield from part.figures(Path(folder))
