"""How fast the catalogue answers the five queries that `run` issues, on SQLite and on PostgreSQL."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa

from dpu_recipes.archive import Selection
from dpud.archive.catalogue_sql import SqlCatalogue
from dpud.archive.records import Query, View
from tests.benchmarks.archive.nights import CHIPS, grow, name_of, night_of, object_of
from tests.benchmarks.figure import Figure
from tests.fakes_postgres import programs, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from dpud.archive.records import Record

SIZES = (10_000, 100_000, 1_000_000)
#: How often each is asked.
QUESTIONS = 300
#: As a task sees it, of a job that has made nothing yet.
VIEW = View("KIDS", 1_000_000_000, "ann")


def figures(folder: Path) -> Iterator[Figure]:
    """Measure catalogues of growing size; the slowest of the five queries on the slower database counts."""
    if (found := programs()) is None:
        raise RuntimeError("this benchmark needs PostgreSQL: no initdb on PATH or in /usr/lib/postgresql")
    with running(found, "shared_buffers=512MB", "fsync=off", "max_wal_size=4GB") as server:
        catalogues = {
            "SQLite": SqlCatalogue.on_file(folder / "catalogue.sqlite"),
            "PostgreSQL": SqlCatalogue(sa.make_url(server.database())),
        }
        for size in SIZES:
            slowest = max(_slowest(name, catalogue, size) for name, catalogue in catalogues.items())
            bar = "under 20 ms" if size == SIZES[-1] else ""
            figure = f"query_p99_ms_1e{len(str(size)) - 1}"
            yield Figure(bench="archive", figure=figure, value=slowest, unit="ms", bar=bar)
        for catalogue in catalogues.values():
            catalogue.close()


def _slowest(database: str, catalogue: SqlCatalogue, size: int) -> float:
    """Grow a catalogue to `size` frames and return the 99th percentile of its slowest query, ms."""
    nights = grow(catalogue, size)
    random = np.random.default_rng(size)
    told = {}
    for question, ask in _questions(catalogue).items():
        asked = [(int(random.integers(nights)), int(random.integers(CHIPS))) for _ in range(QUESTIONS)]
        told[question] = float(np.percentile([_milliseconds(ask, *each) for each in asked], 99))
    said = ", ".join(f"{question} {value:.2f}" for question, value in told.items())
    print(f"{database}, {size} frames, p99 in ms: {said}", file=sys.stderr)
    return max(told.values())


def _milliseconds(ask: Callable[[int, int], Sequence[Record]], night: int, chip: int) -> float:
    begun = time.perf_counter()
    found = ask(night, chip)
    spent = time.perf_counter() - begun
    if not found:
        raise RuntimeError(f"a query of night {night} and chip {chip} finds nothing, and should")
    return spent * 1e3


def _questions(catalogue: SqlCatalogue) -> dict[str, Callable[[int, int], Sequence[Record]]]:
    """Return the five queries, each of a night and a chip."""
    first = next(night_of(0)).frame

    def select(frame_class: str, **fields: Any) -> list[Record]:
        chosen = Selection(**{"instrument": "WFI"} | fields)
        return catalogue.select(Query(view=VIEW, frame_class=frame_class, selection=chosen), limit=1000)

    def calibration(night: int, chip: int) -> list[Record]:
        days = timedelta(days=night)
        frame = first.evolve(chip=f"ccd{50 + chip}", night=first.night + days, date_obs=first.date_obs + days)
        return catalogue.calibrations(VIEW, "BiasFrame", frame)

    def lineage(night: int, chip: int) -> list[Record]:
        (product,) = catalogue.find(VIEW, [name_of("BiasFrame", night, chip)])
        return catalogue.find(VIEW, product.frame.inputs)

    return {
        "selection": lambda night, chip: select(
            "RawBiasFrame", night=str(first.night + timedelta(days=night)), chips=(f"ccd{50 + chip}",)
        ),
        "calibration": calibration,
        "wildcard": lambda night, chip: select("RawScienceFrame", object=object_of(night, chip, "?")),
        "lineage": lineage,
        "skip": lambda night, chip: select(
            "BiasFrame", instrument="", identity=f"identity of {name_of('BiasFrame', night, chip)}"
        ),
    }
