"""What the log aggregator shows: what came, and how long it was on its way."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from dpud.hosting.metrics import Distribution, histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.core import Metric

    from dpu_api.v1.logs_pb2 import LogBatch

DELAYS_S = (0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000, 10_000)


@dataclass(eq=False, slots=True)
class LogMetrics:
    """Counts what became durable, and who reads."""

    lines: int = 0
    bytes: int = 0
    readers: int = 0
    delays: Distribution = field(default_factory=lambda: Distribution(DELAYS_S))

    def took(self, batches: Sequence[LogBatch]) -> None:
        """Count batches that are durable now."""
        now_us = time.time_ns() // 1000
        for batch in batches:
            self.bytes += batch.ByteSize()
            if batch.texts:
                self.lines += len(batch.texts)
                self.delays.observe((now_us - batch.time_us[-1]) / 1e6)

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        yield CounterMetricFamily("dpu_log_bytes", "Bytes of log lines that were stored.", self.bytes)
        yield CounterMetricFamily("dpu_log_lines", "Log lines that were stored.", self.lines)
        yield GaugeMetricFamily("dpu_log_readers", "Calls that read a log now.", self.readers)
        delays = "From when the last line of a batch was printed until it was durable."
        yield histogram("dpu_log_delay_seconds", delays, [], {(): self.delays})
