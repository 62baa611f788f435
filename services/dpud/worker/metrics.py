"""What a worker shows: its leases, and the log lines that it still has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily

from dpud.hosting.metrics import gauge
from dpud.worker.lines import now_us

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

    from dpud.worker.agent import Agent
    from dpud.worker.spool import Spool


class WorkerMetrics:
    """Shows what an agent holds and what waits in its spool."""

    def __init__(self, agent: Agent, spool: Spool) -> None:
        self._agent = agent
        self._spool = spool

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        running, waiting = self._agent.leases
        yield gauge("dpu_worker_leases", "Tasks that are leased.", "state", {"running": running, "waiting": waiting})
        oldest_us = self._spool.oldest_us
        lag_s = 0.0 if oldest_us is None else max(0.0, (now_us() - oldest_us) / 1e6)
        lag = "How long ago the oldest line was printed that the log service has not stored; 0 without any."
        yield GaugeMetricFamily("dpu_log_lag_seconds", lag, lag_s)
        yield GaugeMetricFamily("dpu_log_spool_bytes", "Log lines that wait to be stored.", self._spool.size)
