"""How fast raw frames become calibrations: ten biases in one process, and a whole night through a DPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.benchmarks.stack import master_bias, night

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.figure import Figure


def figures() -> Iterator[Figure]:
    """Measure both."""
    yield from master_bias.figures()
    yield from night.figures()
