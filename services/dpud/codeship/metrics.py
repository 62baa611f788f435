"""What code shipping shows: how much code travels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from prometheus_client.core import CounterMetricFamily

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from prometheus_client.core import Metric

    from dpu_api.v1.codeship_pb2 import PutTreeRequest, UploadBlobsRequest

    Request = TypeVar("Request", UploadBlobsRequest, PutTreeRequest)


@dataclass(eq=False, slots=True)
class CodeMetrics:
    """Counts what comes."""

    bytes: int = 0
    trees: int = 0

    async def streamed(self, requests: AsyncIterator[Request]) -> AsyncIterator[Request]:
        """Yield requests, and count them."""
        async for request in requests:
            self.bytes += request.ByteSize()
            yield request

    def put(self, request: PutTreeRequest) -> None:
        """Count a tree."""
        self.bytes += request.ByteSize()
        self.trees += 1

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        yield CounterMetricFamily("dpu_code_upload_bytes", "Bytes of code, as they travelled.", self.bytes)
        yield CounterMetricFamily("dpu_code_trees", "Trees that were put, new or not.", self.trees)
