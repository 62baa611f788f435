"""LogService on the wire."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from dpu.errors import NotAllowed, NotFound, UsageError
from dpu_api.v1 import logs_pb2, logs_pb2_grpc
from dpud.hosting.caller import Role, current_caller
from dpud.logs import wire
from dpud.logs.metrics import LogMetrics
from dpud.logs.reading import Reading, seen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from grpc import aio

    from dpud.logs.aggregator import Aggregator

NAME = "dpu_api.v1.LogService"


class LogServicer(logs_pb2_grpc.LogServiceServicer):
    """Messages to the aggregator and back."""

    def __init__(self, aggregator: Aggregator) -> None:
        self._aggregator = aggregator
        self.metrics = LogMetrics()

    def add_to(self, server: aio.Server) -> None:
        """Put the service on a server."""
        logs_pb2_grpc.add_LogServiceServicer_to_server(self, server)

    async def Append(
        self,
        request_iterator: AsyncIterator[logs_pb2.AppendRequest],
        _context: aio.ServicerContext[logs_pb2.AppendRequest, logs_pb2.AppendResponse],
    ) -> AsyncIterator[logs_pb2.AppendResponse]:
        """Take batches; acknowledge each when it is durable."""
        async for request in request_iterator:
            parts = [request, *request.more]
            durable = await self._aggregator.take(
                [(part.batch.ref.job_id, part.project, wire.take(part)) for part in parts]
            )
            self.metrics.took([part.batch for part in parts])
            first, *more = map(wire.acknowledgement, parts, durable)
            first.more.extend(more)
            yield first

    async def Read(
        self,
        request: logs_pb2.ReadRequest,
        _context: aio.ServicerContext[logs_pb2.ReadRequest, logs_pb2.ReadResponse],
    ) -> AsyncIterator[logs_pb2.ReadResponse]:
        """Send a job's log."""
        question = wire.question(request)
        # A scheduler in this process says that a job has ended as soon as its closing is ordered here.
        await self._aggregator.caught_up(request.job_id)
        async with self._reading(), self._aggregator.holding(request.job_id) as job:
            reading = Reading(self._aggregator, job, current_caller(), question)
            async with aclosing(reading.items()) as items:
                async for item in items:
                    yield wire.response(job.id, item)

    async def GetHighestJobWithLogs(
        self,
        _request: logs_pb2.GetHighestJobWithLogsRequest,
        _context: aio.ServicerContext[logs_pb2.GetHighestJobWithLogsRequest, logs_pb2.GetHighestJobWithLogsResponse],
    ) -> logs_pb2.GetHighestJobWithLogsResponse:
        """Name the highest job."""
        return logs_pb2.GetHighestJobWithLogsResponse(job_id=await self._aggregator.highest_job())

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        self.metrics.readers += 1
        try:
            yield
        finally:
            self.metrics.readers -= 1

    async def CloseTask(
        self,
        request: logs_pb2.CloseTaskRequest,
        _context: aio.ServicerContext[logs_pb2.CloseTaskRequest, logs_pb2.CloseTaskResponse],
    ) -> logs_pb2.CloseTaskResponse:
        """Note how many lines an attempt wrote."""
        await self._aggregator.order(request.ref.job_id, request.project, wire.close_task(request))
        return logs_pb2.CloseTaskResponse()

    async def CloseTasks(
        self,
        request: logs_pb2.CloseTasksRequest,
        _context: aio.ServicerContext[logs_pb2.CloseTasksRequest, logs_pb2.CloseTasksResponse],
    ) -> logs_pb2.CloseTasksResponse:
        """Note how many lines attempts wrote, and that jobs ended."""
        tasks = [(each.ref.job_id, each.project, wire.close_task(each)) for each in request.tasks]
        jobs = [(each.job_id, each.project, wire.close_job(each)) for each in request.jobs]
        if tasks or jobs:
            await self._aggregator.order_all([*tasks, *jobs], wire.linger_s(request))
        return logs_pb2.CloseTasksResponse()

    async def CloseJob(
        self,
        request: logs_pb2.CloseJobRequest,
        _context: aio.ServicerContext[logs_pb2.CloseJobRequest, logs_pb2.CloseJobResponse],
    ) -> logs_pb2.CloseJobResponse:
        """Note that a job ended."""
        await self._aggregator.order(request.job_id, request.project, wire.close_job(request))
        return logs_pb2.CloseJobResponse()

    async def DeleteJobLogs(
        self,
        request: logs_pb2.DeleteJobLogsRequest,
        _context: aio.ServicerContext[logs_pb2.DeleteJobLogsRequest, logs_pb2.DeleteJobLogsResponse],
    ) -> logs_pb2.DeleteJobLogsResponse:
        """Delete the lines of a job, for its owner or an operator."""
        if request.job_id < 1:
            raise UsageError(f"no such job has logs: {request.job_id}")
        caller = current_caller()
        await self._aggregator.caught_up(request.job_id)
        async with self._aggregator.holding(request.job_id) as job:
            view = seen(job, caller)
            if view.project is None:
                raise NotFound(f"there are no logs of job {request.job_id}")
            if caller.user != view.owner and Role.OPERATOR not in caller.roles:
                raise NotAllowed(
                    f"job {request.job_id} belongs to {view.owner or 'somebody unknown'}: "
                    f"{caller.user} may not delete its logs; its owner and operators may"
                )
            await self._aggregator.delete(job.id, view.project, caller.user)
        return logs_pb2.DeleteJobLogsResponse()
