"""How fast exposures come into the archive, and how fast its catalogue answers what `run` asks of it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.archive import ingest, queries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.figure import Figure


def figures() -> Iterator[Figure]:
    """Measure ingest and queries, on a real disk: what is in memory needs no flushing."""
    disk = Path("build/bench")
    disk.mkdir(parents=True, exist_ok=True)
    for part in (ingest, queries):
        with tempfile.TemporaryDirectory(dir=disk.absolute()) as folder:
            yield from part.figures(Path(folder))
