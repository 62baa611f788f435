"""One measured figure, as it is printed."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A median of several runs, and what it should be."""

    bench: str
    figure: str
    value: float
    unit: str
    #: Measured in the same run at its documented best settings.
    peer: str = ""
    peer_value: float | None = None
    #: 'at most 0.2': what was promised; '' for a figure that is only watched.
    bar: str = ""
    #: Whether less is better.
    less_is_better: bool = True

    def line(self) -> str:
        """Return the figure as one JSON object."""
        row: dict[str, str | float] = {
            "bench": self.bench,
            "figure": self.figure,
            "value": round(self.value, 6),
            "unit": self.unit,
        }
        if self.peer and self.peer_value:
            ratio = self.peer_value / self.value if self.less_is_better else self.value / self.peer_value
            row |= {"peer": self.peer, "peer_value": round(self.peer_value, 6), "ratio": round(ratio, 3)}
        return json.dumps(row)


def median_seconds(run: Callable[[], object], runs: int = 5) -> float:
    """Return the median time of `run` over several runs after a warm-up."""
    run()
    seconds = []
    for _ in range(runs):
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)
