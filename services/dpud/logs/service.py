"""LogService on the wire."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from dpu.errors import UsageError
from dpu_api.v1 import logs_pb2, logs_pb2_grpc
from dpud.hosting.caller import current_caller
from dpud.logs import wire
from dpud.logs.aggregator import View
from dpud.logs.reading import Selection, reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from grpc import aio

    from dpud.logs.aggregator import Aggregator

NAME = "dpu_api.v1.LogService"


class LogServicer(logs_pb2_grpc.LogServiceServicer):
    """Messages to the aggregator and back."""

    def __init__(self, aggregator: Aggregator) -> None:
        self._aggregator = aggregator

    def add_to(self, server: aio.Server) -> None:
        """Put the service on a server."""
        logs_pb2_grpc.add_LogServiceServicer_to_server(self, server)

    async def Append(
        self,
        request_iterator: AsyncIterator[logs_pb2.AppendRequest],
        context: aio.ServicerContext[logs_pb2.AppendRequest, logs_pb2.AppendResponse],  # noqa: ARG002 (gRPC passes it)
    ) -> AsyncIterator[logs_pb2.AppendResponse]:
        """Take batches; acknowledge each when it is durable."""
        async for request in request_iterator:
            batch = request.batch
            durable = await self._aggregator.take(batch.ref.job_id, request.project, wire.take(batch))
            yield logs_pb2.AppendResponse(ref=batch.ref, acknowledged=durable)

    async def Read(
        self,
        request: logs_pb2.ReadRequest,
        context: aio.ServicerContext[logs_pb2.ReadRequest, logs_pb2.ReadResponse],  # noqa: ARG002 (gRPC passes it)
    ) -> AsyncIterator[logs_pb2.ReadResponse]:
        """Send a job's log."""
        if request.offset < 0 or request.job_id < 1:
            raise UsageError(f"no log is at offset {request.offset} of job {request.job_id}")
        selection = Selection(frozenset(request.tasks), request.newest_attempt)
        caller = current_caller()
        async with (
            self._aggregator.holding(request.job_id) as job,
            aclosing(
                reading(self._aggregator, job, caller, request.offset, selection=selection, follow=request.follow)
            ) as items,
        ):
            async for item in items:
                if isinstance(item, View):
                    yield wire.job_end(item)
                    continue
                for response in wire.responses(job.id, item, request.offset, request.level):
                    yield response

    async def CloseTask(
        self,
        request: logs_pb2.CloseTaskRequest,
        context: aio.ServicerContext[logs_pb2.CloseTaskRequest, logs_pb2.CloseTaskResponse],  # noqa: ARG002 (as above)
    ) -> logs_pb2.CloseTaskResponse:
        """Note how many lines an attempt wrote."""
        await self._aggregator.order(request.ref.job_id, request.project, wire.close_task(request))
        return logs_pb2.CloseTaskResponse()

    async def CloseJob(
        self,
        request: logs_pb2.CloseJobRequest,
        context: aio.ServicerContext[logs_pb2.CloseJobRequest, logs_pb2.CloseJobResponse],  # noqa: ARG002 (as above)
    ) -> logs_pb2.CloseJobResponse:
        """Note that a job ended."""
        await self._aggregator.order(request.job_id, request.project, wire.close_job(request))
        return logs_pb2.CloseJobResponse()
