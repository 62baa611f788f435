"""Messages to commands, and records to messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpu.errors import UsageError
from dpu_api.v1 import job_pb2, logs_pb2
from dpud.logs.ledger import SECOND_US, CloseJob, CloseTask, TakeLines
from dpud.logs.record import Lines, weight

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpud.logs.aggregator import View
    from dpud.logs.record import TaskEnded
    from dpud.logs.store import Placed

#: Workers send at most 64 KiB, or one line of any length; gRPC's own limit is not far above this.
MAX_BATCH = 8 * 1024 * 1024
_LEVELS = len(logs_pb2.LogLevel.values())
_STREAMS = len(logs_pb2.LogStream.values())
_FAR = 2**62


def take(batch: logs_pb2.LogBatch) -> TakeLines:
    """Return the command to take a batch. Raises UsageError where it contradicts itself."""
    ref, count = batch.ref, len(batch.texts)
    what = f"lines from {batch.first} on of job {ref.job_id}, task {ref.task}, attempt {ref.attempt}"
    columns = (len(batch.time_us), len(batch.levels), len(batch.streams))
    if ref.job_id < 1 or ref.task < 0 or ref.attempt < 1 or not 0 <= batch.first < _FAR:
        raise UsageError(f"no attempt can print this: {what}")
    if columns != (count, count, count):
        raise UsageError(f"{what}: {count} texts, but {columns} times, levels and streams")
    if max(batch.levels, default=0) >= _LEVELS or max(batch.streams, default=0) >= _STREAMS:
        raise UsageError(f"{what}: a level or a stream that does not exist")
    if (size := batch.ByteSize()) > MAX_BATCH:
        raise UsageError(f"{what}: {size} bytes are more than the {MAX_BATCH} that a batch may have")
    return TakeLines(
        ref.task,
        ref.attempt,
        batch.first,
        count,
        lambda start, stop: part(batch, start - batch.first, stop - batch.first).SerializeToString(),
    )


def part(batch: logs_pb2.LogBatch, start: int, stop: int) -> logs_pb2.LogBatch:
    """Return the lines [start, stop) of a batch, counted from its own first."""
    if (start, stop) == (0, len(batch.texts)):
        return batch
    return logs_pb2.LogBatch(
        ref=batch.ref,
        first=batch.first + start,
        time_us=batch.time_us[start:stop],
        levels=batch.levels[start:stop],
        streams=batch.streams[start:stop],
        texts=batch.texts[start:stop],
    )


def close_task(request: logs_pb2.CloseTaskRequest) -> CloseTask:
    """Return the command to close an attempt. Raises UsageError."""
    ref = request.ref
    if ref.job_id < 1 or ref.task < 0 or ref.attempt < 0 or not -1 <= request.lines < _FAR:
        raise UsageError(
            f"no such attempt can end: job {ref.job_id}, task {ref.task}, attempt {ref.attempt}, {request.lines} lines"
        )
    patience = max(0, request.patience.seconds * SECOND_US + request.patience.nanos // 1000)
    return CloseTask(ref.task, ref.attempt, request.state, request.lines, patience)


def close_job(request: logs_pb2.CloseJobRequest) -> CloseJob:
    """Return the command to close a job. Raises UsageError."""
    if request.job_id < 1:
        raise UsageError(f"no such job can end: {request.job_id}")
    return CloseJob(request.state)


def responses(job_id: int, placed: Placed, offset: int, level: int) -> Iterator[logs_pb2.ReadResponse]:
    """Yield what one record is to a reader who resumes at `offset` and wants lines of at least `level`."""
    if not isinstance(placed.record, Lines):
        yield logs_pb2.ReadResponse(task_end=_task_end(job_id, placed), offset=placed.offset + weight(placed.record))
        return
    batch = logs_pb2.LogBatch.FromString(placed.record.batch)
    for start, stop in _runs(batch.levels, max(0, offset - placed.offset), level):
        # The offset behind a run is that of its last line: a stream that breaks between two runs loses none.
        yield logs_pb2.ReadResponse(batch=part(batch, start, stop), offset=placed.offset + stop)


def job_end(view: View) -> logs_pb2.ReadResponse:
    """Return the message that ends a stream."""
    end = logs_pb2.JobEnd(
        state=job_pb2.JobState.ValueType(view.ended or 0), complete=view.complete, open=view.ended is None
    )
    return logs_pb2.ReadResponse(end=end, offset=view.end)


def _runs(levels: bytes, start: int, level: int) -> Iterator[tuple[int, int]]:
    """Yield the runs of consecutive lines, from `start` on, that have at least `level`."""
    if level == logs_pb2.LOG_LEVEL_UNSPECIFIED:
        yield start, len(levels)
        return
    begun = None
    for at in range(start, len(levels)):
        if levels[at] >= level:
            begun = at if begun is None else begun
        elif begun is not None:
            yield begun, at
            begun = None
    if begun is not None:
        yield begun, len(levels)


def _task_end(job_id: int, placed: Placed) -> logs_pb2.TaskEnd:
    record: TaskEnded = placed.record  # type: ignore[assignment]  # what is no line and has a weight is a task's end
    return logs_pb2.TaskEnd(
        ref=job_pb2.TaskRef(job_id=job_id, task=record.task, attempt=record.attempt),
        state=job_pb2.TaskState.ValueType(record.state),
        lines=record.lines,
        complete=record.complete,
        missing=record.missing,
    )
