"""Messages to commands, and records to messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpu.errors import UsageError
from dpu_api.v1 import job_pb2, logs_pb2
from dpud.logs.ledger import SECOND_US, CloseJob, CloseTask, TakeLines
from dpud.logs.reading import Ended, Finished, Item, Passed, Question, Shown
from dpud.logs.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.timestamp_pb2 import Timestamp

#: Workers send at most 64 KiB, or one line of any length; gRPC's own limit is not far above this.
MAX_BATCH = 8 * 1024 * 1024
_LEVELS = len(logs_pb2.LogLevel.values())
_STREAMS = len(logs_pb2.LogStream.values())
_FAR = 2**62
#: What a pattern may take: RE2 refuses what needs more, and never goes back over a line, so that no pattern costs more
#: than its own size times the line's.
MAX_PATTERN = 1000
#: Who closes logs may have time, but not for ever.
MAX_LINGER_S = 1.0
_PATTERN_MEMORY = 1024 * 1024


def take(request: logs_pb2.AppendRequest) -> TakeLines:
    """Return the command to take a batch. Raises UsageError where it contradicts itself."""
    batch = request.batch
    ref, count = batch.ref, len(batch.texts)
    if ref.job_id < 1 or ref.task < 0 or ref.attempt < 1 or not 0 <= batch.first < _FAR:
        raise UsageError(f"no attempt can print this: {_named(batch)}")
    if wrong := _contradiction(batch, count):
        raise UsageError(f"{_named(batch)}: {wrong}")
    return TakeLines(
        ref.task,
        ref.attempt,
        batch.first,
        count,
        lambda start, stop: part(batch, start - batch.first, stop - batch.first).SerializeToString(),
        request.user,
        request.label,
    )


def _named(batch: logs_pb2.LogBatch) -> str:
    ref = batch.ref
    return f"lines from {batch.first} on of job {ref.job_id}, task {ref.task}, attempt {ref.attempt}"


def _contradiction(batch: logs_pb2.LogBatch, count: int) -> str:
    """Return what is wrong with a batch of so many lines; '' where nothing is."""
    columns = (len(batch.time_us), len(batch.levels), len(batch.streams))
    if columns != (count, count, count):
        return f"{count} texts, but {columns} times, levels and streams"
    if max(batch.levels, default=0) >= _LEVELS or max(batch.streams, default=0) >= _STREAMS:
        return "a level or a stream that does not exist"
    if (size := batch.ByteSize()) > MAX_BATCH:
        return f"{size} bytes are more than the {MAX_BATCH} that a batch may have"
    return ""


def acknowledgement(request: logs_pb2.AppendRequest, durable: int) -> logs_pb2.AppendResponse:
    """Return that the lines of an attempt below a number are durable."""
    return logs_pb2.AppendResponse(ref=request.batch.ref, acknowledged=durable)


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


def linger_s(request: logs_pb2.CloseTasksRequest) -> float:
    """Return for how long what is closed may wait for something else to be kept, in seconds."""
    return min(MAX_LINGER_S, max(0.0, request.linger.ToNanoseconds() / 1e9))


def close_job(request: logs_pb2.CloseJobRequest) -> CloseJob:
    """Return the command to close a job. Raises UsageError."""
    if request.job_id < 1:
        raise UsageError(f"no such job can end: {request.job_id}")
    return CloseJob(request.state)


def question(request: logs_pb2.ReadRequest) -> Question:
    """Return what a request wants to read. Raises UsageError where that makes no sense."""
    if request.offset < 0 or request.job_id < 1:
        raise UsageError(f"no log is at offset {request.offset} of job {request.job_id}")
    if request.head < 0 or request.tail < 0 or (request.head and request.tail):
        raise UsageError(f"head={request.head}, tail={request.tail}: at most one of them, and none below 0")
    if request.before < 0 or (request.before and request.follow):
        raise UsageError(f"before={request.before}: not below 0, and not where what comes is followed")
    selection = Selection(
        tasks=frozenset(request.tasks),
        attempts=frozenset(request.attempts),
        chips=frozenset(request.chips),
        newest_attempt=request.newest_attempt,
        level=request.level,
        finds=_finder(request.text, request.pattern),
        since_us=_moment(request.since) if request.HasField("since") else None,
        until_us=_moment(request.until) if request.HasField("until") else None,
    )
    return Question(
        offset=request.offset,
        follow=request.follow,
        selection=selection,
        head=request.head,
        tail=request.tail,
        before=request.before,
    )


def response(job_id: int, item: Item) -> logs_pb2.ReadResponse:
    """Return what a reader is sent."""
    match item:
        case Shown():
            # The offset behind a run is that of its last line: a stream that breaks between two runs loses none.
            return logs_pb2.ReadResponse(batch=part(item.batch, item.start, item.stop), offset=item.offset + item.stop)
        case Ended():
            return logs_pb2.ReadResponse(task_end=_task_end(job_id, item), offset=item.offset + 1)
        case Passed():
            return logs_pb2.ReadResponse(offset=item.offset)
        case Finished():
            return logs_pb2.ReadResponse(end=_job_end(item), offset=item.offset)


def _finder(text: str, pattern: str) -> Callable[[str], object] | None:
    """Return what says whether a line has both the text and the pattern in it. Raises UsageError."""
    if not pattern:
        return (lambda line: text in line) if text else None
    if len(pattern) > MAX_PATTERN:
        raise UsageError(f"a pattern of {len(pattern)} characters: at most {MAX_PATTERN}")
    # Imported where it is wanted: few readers want it.
    import re2

    options = re2.Options()
    options.max_mem = _PATTERN_MEMORY
    options.log_errors = False
    try:
        found = re2.compile(pattern, options).search
    except re2.error as error:
        # RE2 tells in bytes.
        why = error.args[0].decode(errors="replace") if error.args else "it says no more"
        raise UsageError(f"{pattern!r} is no RE2 pattern: {why}") from error
    return found if not text else lambda line: text in line and found(line)


def _moment(stamp: Timestamp) -> int:
    return stamp.seconds * SECOND_US + stamp.nanos // 1000


def _job_end(item: Finished) -> logs_pb2.JobEnd:
    view = item.view
    return logs_pb2.JobEnd(
        state=job_pb2.JobState.ValueType(view.ended or 0),
        complete=view.complete,
        open=view.ended is None,
        cut=item.cut,
        deleted_by=view.deleted_by,
    )


def _task_end(job_id: int, item: Ended) -> logs_pb2.TaskEnd:
    record = item.record
    return logs_pb2.TaskEnd(
        ref=job_pb2.TaskRef(job_id=job_id, task=record.task, attempt=record.attempt),
        state=job_pb2.TaskState.ValueType(record.state),
        lines=record.lines,
        complete=record.complete,
        missing=record.missing,
    )
