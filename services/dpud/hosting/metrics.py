"""What every service counts, what each shows when it is asked, and the port where Prometheus reads it.

A service shows its state as it is when somebody asks, and counts with plain numbers: nothing is computed for
Prometheus between two scrapes. docs/reference/metrics.md names every metric.
"""

from __future__ import annotations

import asyncio
import platform
import shutil
from bisect import bisect_left
from contextlib import contextmanager, suppress
from functools import cache, partial
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from google.protobuf import descriptor_pool
from prometheus_client import REGISTRY, Counter, Histogram, Info, start_http_server
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily

import dpu
from dpud.hosting.settings import BadSetting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from prometheus_client.core import Metric

    from dpud.hosting.settings import Address

_METHOD = ("grpc_type", "grpc_service", "grpc_method")
STARTED = Counter("grpc_server_started", "Calls that began.", _METHOD)
HANDLED = Counter("grpc_server_handled", "Calls that ended, by their status.", (*_METHOD, "grpc_code"))
SECONDS = Histogram(
    "grpc_server_handling_seconds",
    "Time from the first to the last byte of a call.",
    _METHOD,
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
)
BUILD = Info("dpu_build", "What runs here.")

#: How long a scrape waits for a loop that is busy.
PATIENCE_S = 8.0


class Meter:
    """Counts the calls of one method."""

    def __init__(self, method: str, kind: str) -> None:
        service, _, name = method.removeprefix("/").partition("/")
        labels = (kind, service, name)
        self._started = STARTED.labels(*labels)
        self._seconds = SECONDS.labels(*labels)
        self._handled = cache(partial(HANDLED.labels, *labels))

    def begin(self) -> float:
        """Count a call that begins; return when."""
        self._started.inc()
        return perf_counter()

    def end(self, code: str, begun: float) -> None:
        """Count its end."""
        self._handled(code).inc()
        self._seconds.observe(perf_counter() - begun)


@cache
def meter(method: str, *, asks_often: bool, answers_often: bool) -> Meter:
    """Return the meter of a method that is served, by whether its requests and its answers are streams."""
    kinds = {(False, False): "unary", (False, True): "server_stream", (True, False): "client_stream"}
    return Meter(method, kinds.get((asks_often, answers_often), "bidi_stream"))


def expect(services: Iterable[str]) -> None:
    """Begin to count the methods of services by their full names: Prometheus takes no notice of a count's beginning."""
    for name in services:
        for method in descriptor_pool.Default().FindServiceByName(name).methods:
            meter(f"/{name}/{method.name}", asks_often=method.client_streaming, answers_often=method.server_streaming)


class Distribution:
    """How many values there were up to each of some bounds: a histogram for hot paths, without a lock."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Return the bounds and how many values were not above each, as Prometheus reads them."""
        below, found = 0, []
        for bound, count in zip([*map(str, self._bounds), "+Inf"], self._counts, strict=True):
            below += count
            found.append((bound, float(below)))
        return found


def gauge(name: str, what: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    """Return numbers by the value of one label, as Prometheus reads them."""
    family = GaugeMetricFamily(name, what, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def histogram(
    name: str, what: str, labels: Sequence[str], distributions: Mapping[tuple[str, ...], Distribution]
) -> HistogramMetricFamily:
    """Return distributions by the values of their labels, as Prometheus reads them."""
    family = HistogramMetricFamily(name, what, labels=labels)
    for values, each in distributions.items():
        family.add_metric(list(values), each.buckets(), each.total)
    return family


class Collector(Protocol):
    """What a service shows."""

    def collect(self) -> Iterable[Metric]:
        """Return its metrics as they are now; called in the loop's thread, where the state stands still meanwhile."""


class DiskMetrics:
    """How large the disk under a service's folder is, and how much of it is free."""

    def __init__(self, service: str, folder: Path) -> None:
        self._service = service
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """Return both."""
        usage = shutil.disk_usage(self._folder)
        size = GaugeMetricFamily("dpu_disk_size_bytes", "The disk under a service's folder.", labels=["service"])
        size.add_metric([self._service], usage.total)
        free = GaugeMetricFamily("dpu_disk_free_bytes", "What is free of it.", labels=["service"])
        free.add_metric([self._service], usage.free)
        yield from (size, free)


class _Shown:
    """What all services of this process show, each family once."""

    def __init__(self) -> None:
        self._collectors: dict[Collector, asyncio.AbstractEventLoop] = {}

    @contextmanager
    def showing(self, collector: Collector) -> Iterator[None]:
        self._collectors[collector] = asyncio.get_running_loop()
        try:
            yield
        finally:
            del self._collectors[collector]

    def describe(self) -> list[Metric]:
        """Claim no name: two services of a kind may be in one process."""
        return []

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for collector, loop in list(self._collectors.items()):
            for family in _within(loop, collector.collect):
                if family.name in families:
                    families[family.name].samples += family.samples
                else:
                    families[family.name] = family
        return families.values()


_SHOWN = _Shown()
REGISTRY.register(_SHOWN)
showing = _SHOWN.showing


def _within(loop: asyncio.AbstractEventLoop, collect: Callable[[], Iterable[Metric]]) -> list[Metric]:
    """Return what is collected in the thread of `loop`, which may be this one."""

    async def collected() -> list[Metric]:
        return list(collect())

    with suppress(RuntimeError):
        if asyncio.get_running_loop() is loop:
            return list(collect())
    return asyncio.run_coroutine_threadsafe(collected(), loop).result(PATIENCE_S)


@cache
def expose(address: Address, service: str) -> None:
    """Serve /metrics in plain text on `address` from a thread of its own, once a process. Raises BadSetting."""
    BUILD.info({"version": dpu.__version__, "python": platform.python_version(), "service": service})
    try:
        start_http_server(address.port, addr=address.host)
    except OSError as error:
        raise BadSetting(f"DPU_METRICS_LISTEN={address.text!r}: cannot listen there: {error.strerror}") from error
