"""An archive and logs without products and lines, for a scheduler and pages that are measured alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from dpu_api.v1 import archive_pb2, archive_pb2_grpc, logs_pb2, logs_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Archive(archive_pb2_grpc.ArchiveServiceServicer):
    """An archive that has heard of jobs up to one."""

    def __init__(self, highest_job: int) -> None:
        self._highest_job = highest_job

    def GetHighestJob(self, _request: object, _context: object) -> archive_pb2.GetHighestJobResponse:  # noqa: N802 (gRPC's name)
        return archive_pb2.GetHighestJobResponse(job_id=self._highest_job)

    def ListInstruments(self, _request: object, _context: object) -> archive_pb2.ListInstrumentsResponse:  # noqa: N802 (gRPC's name)
        return archive_pb2.ListInstrumentsResponse()


class _Logs(logs_pb2_grpc.LogServiceServicer):
    """Logs that have no lines."""

    def GetHighestJobWithLogs(self, _request: object, _context: object) -> logs_pb2.GetHighestJobWithLogsResponse:  # noqa: N802 (gRPC's name)
        return logs_pb2.GetHighestJobWithLogsResponse()

    def CloseTasks(self, _request: object, _context: object) -> logs_pb2.CloseTasksResponse:  # noqa: N802 (gRPC's name)
        return logs_pb2.CloseTasksResponse()


def beside(folder: Path) -> str:
    """Return where those beside a scheduler in a folder listen."""
    return f"unix:{folder}/others"


@contextmanager
def standing_in(folder: Path, highest_job: int = 0) -> Iterator[None]:
    """Have them serve within the block."""
    server = grpc.server(ThreadPoolExecutor(2))
    archive_pb2_grpc.add_ArchiveServiceServicer_to_server(_Archive(highest_job), server)
    logs_pb2_grpc.add_LogServiceServicer_to_server(_Logs(), server)
    server.add_insecure_port(beside(folder))
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait()
