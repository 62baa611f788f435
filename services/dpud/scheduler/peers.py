"""The archive and the logs, as the outbox calls them over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration

from dpu import tracing
from dpu.channel import open_async_channel
from dpu.errors import Conflict, VersionMismatch
from dpu.status import from_rpc
from dpu_api.v1 import archive_pb2, archive_pb2_grpc, job_pb2, logs_pb2, logs_pb2_grpc
from dpud.scheduler.model import Errand
from dpud.scheduler.traces import Traces

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any, TypeAlias

    from dpud.hosting.settings import Peer
    from dpud.scheduler.model import Entry, Ref

    CloseLogs: TypeAlias = Callable[..., Awaitable[Any]]

log = structlog.get_logger(__name__)

DEADLINE_S = 30.0
#: How long logs that are here may put off a sync: the last lines of a task come soon after its end.
LINGER = Duration(nanos=10_000_000)
#: How long the logs wait for lines that have not arrived.
PATIENCE_S = 10


class GrpcPeers:
    """Calls the archive and the logs with the scheduler's own token.

    Where the logs are in this process, `close_logs` is their CloseTasks, without a wire in between.
    """

    def __init__(self, archive: Peer, logs: Peer, close_logs: CloseLogs | None = None) -> None:
        self._channels = [open_async_channel(peer.address.text, peer.token) for peer in (archive, logs)]
        self._archive = archive_pb2_grpc.ArchiveServiceStub(self._channels[0])
        self._logs = logs_pb2_grpc.LogServiceStub(self._channels[1])
        #: Whether the logs are in this process.
        self.logs_here = close_logs is not None
        self._close_logs = close_logs or self._logs.CloseTasks
        #: What is told of a job goes on with its trace.
        self.traces = Traces()

    async def close(self) -> None:
        """Close the channels."""
        for channel in self._channels:
            await channel.close()

    async def publish(self, entry: Entry) -> None:
        """Have an attempt's products become visible."""
        request = archive_pb2.PublishRequest(ref=_ref(entry.ref), commit=entry.commit)
        with tracing.below(self.traces.of(entry.ref.job), "publish"):
            await _heard(self._archive.Publish(request, timeout=DEADLINE_S), "the archive")

    async def discard(self, entry: Entry) -> None:
        """Have an attempt's products removed; those that the archive has published stay.

        It has only where the journal came from a backup, and was told the end of the attempt in the time that is lost.
        """
        request = archive_pb2.DiscardRequest(ref=_ref(entry.ref))
        try:
            await _heard(self._archive.Discard(request, timeout=DEADLINE_S), "the archive")
        except Conflict as error:
            log.warning("products stay that the journal knows nothing of", ref=entry.ref, why=error.message)

    async def close_logs(self, entries: Sequence[Entry]) -> None:
        """Have logs of attempts closed, then logs of jobs."""
        request = logs_pb2.CloseTasksRequest(
            tasks=[_close_task(entry) for entry in entries if entry.errand is Errand.CLOSE_TASK],
            jobs=[_close_job(entry) for entry in entries if entry.errand is Errand.CLOSE_JOB],
            linger=LINGER if self.logs_here else None,
        )
        await _heard(self._close_logs(request, timeout=DEADLINE_S), "the log service")

    async def highest_job(self) -> int:
        """Return the highest job that the archive or the logs know; 0 where they are of a release that cannot say."""
        archive = self._archive.GetHighestJob(archive_pb2.GetHighestJobRequest(), timeout=DEADLINE_S)
        logs = self._logs.GetHighestJobWithLogs(logs_pb2.GetHighestJobWithLogsRequest(), timeout=DEADLINE_S)
        return max(await _number(archive, "the archive"), await _number(logs, "the log service"))


async def _number(call: Awaitable[Any], service: str) -> int:
    try:
        return int((await call).job_id)
    except grpc.RpcError as error:
        reason = from_rpc(error, service)
        if isinstance(reason, VersionMismatch):
            return 0
        raise reason from error


def _close_task(entry: Entry) -> logs_pb2.CloseTaskRequest:
    return logs_pb2.CloseTaskRequest(
        ref=_ref(entry.ref),
        project=entry.project,
        state=job_pb2.TaskState.ValueType(entry.ending),
        lines=entry.lines,
        patience=Duration(seconds=PATIENCE_S),
    )


def _close_job(entry: Entry) -> logs_pb2.CloseJobRequest:
    state = job_pb2.JobState.ValueType(entry.ending)
    return logs_pb2.CloseJobRequest(job_id=entry.ref.job, project=entry.project, state=state)


def _ref(ref: Ref) -> job_pb2.TaskRef:
    return job_pb2.TaskRef(job_id=ref.job, task=ref.task, attempt=ref.attempt)


async def _heard(call: Awaitable[object], service: str) -> None:
    """Await a call. Raises DpuError."""
    try:
        await call
    except grpc.RpcError as error:
        raise from_rpc(error, service) from error
