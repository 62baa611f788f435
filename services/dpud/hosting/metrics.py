"""What every service counts, and the port where Prometheus reads it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram, Info, start_http_server

import dpu

if TYPE_CHECKING:
    from dpud.hosting.settings import Address

CALLS = Counter("grpc_server_handled", "Calls that were answered.", ("grpc_method", "grpc_code"))
CALL_SECONDS = Histogram(
    "grpc_server_handling_seconds",
    "Time from the first to the last byte of a call.",
    ("grpc_method",),
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
)
BUILD = Info("dpu_build", "What runs here.")


@cache
def expose(address: Address, service: str) -> None:
    """Serve /metrics in plain text on `address` from a thread of its own, once a process."""
    BUILD.info({"version": dpu.__version__, "service": service})
    start_http_server(address.port, addr=address.host)
