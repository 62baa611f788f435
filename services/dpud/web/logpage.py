"""The log of a job: its last lines, what comes, all of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from starlette.responses import StreamingResponse

from dpu_api.v1.job_pb2 import JobState
from dpu_api.v1.logs_pb2 import LogLevel, ReadRequest
from dpud.web.calls import RETRY, again, answered, found, stream
from dpud.web.visit import number

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.responses import Response

    from dpu_api.v1.logs_pb2 import JobEnd, LogBatch, ReadResponse
    from dpud.web.visit import Route, Visit
    from dpud.web.visitors import Services

log = structlog.get_logger(__name__)

#: Lines of a page. A log of millions costs no more.
LINES = 500
LEVELS = {"": 0} | {name: LogLevel.Value(f"LOG_LEVEL_{name.upper()}") for name in ("info", "warning", "error")}


@dataclass(frozen=True, slots=True)
class Asked:
    """Which lines are shown."""

    text: str = ""
    level: str = ""
    chip: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """Return what a query asks for; a level that is none is every level."""
        level = query.get("level", "")
        return cls(query.get("text", ""), level if level in LEVELS else "", query.get("chip", ""))

    def request(self, job: int, **more: Any) -> ReadRequest:
        """Return the call for these lines of a job."""
        chips = [self.chip] if self.chip else []
        level: Any = LEVELS[self.level]
        return ReadRequest(job_id=job, text=self.text, level=level, chips=chips, **more)


@dataclass(frozen=True, slots=True)
class Line:
    """A line, as it is shown."""

    time: str
    task: int
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class LogPage:
    """The end of a log."""

    lines: list[Line]
    #: Where to go on.
    offset: int
    is_open: bool
    end: str


async def last(services: Services, job: int, asked: Asked) -> LogPage:
    """Return the last lines. Raises grpc.RpcError."""
    lines: list[Line] = []
    offset, end = 0, None
    async for answer in _read(services, asked.request(job, tail=LINES)):
        offset = answer.offset or offset
        if answer.WhichOneof("item") == "batch":
            lines += _lines(answer.batch)
        elif answer.WhichOneof("item") == "end":
            end = answer.end
    return LogPage(lines, offset, is_open=end is None or end.open, end=_end(end))


async def events(services: Services, job: int, asked: Asked, offset: int) -> AsyncIterator[str]:
    """Yield server-sent events: lines as they come, and the end. Their identifier is where to resume.

    Where the log service goes away they end, and the browser asks again.
    """
    yield RETRY
    try:
        async for answer in _read(services, asked.request(job, offset=offset, follow=True)):
            yield _event(answer)
    except grpc.RpcError as error:
        log.warning("a log that is followed broke off", job=job, code=error.code().name)


def _event(answer: ReadResponse) -> str:
    what = answer.WhichOneof("item")
    if what == "batch":
        lines = [[line.time, line.task, line.level, line.text] for line in _lines(answer.batch)]
        return f"id: {answer.offset}\nevent: lines\ndata: {json.dumps(lines)}\n\n"
    if what == "end":
        return f"event: end\ndata: {json.dumps(_end(answer.end))}\n\n"
    return f"id: {answer.offset}\n\n"


async def text(services: Services, job: int) -> AsyncIterator[str]:
    """Yield the whole log as text, a piece a batch."""
    async for answer in _read(services, ReadRequest(job_id=job)):
        if answer.WhichOneof("item") == "batch":
            yield "".join(f"{line.time} [{line.task}] {line.text}\n" for line in _lines(answer.batch))


def _read(services: Services, request: ReadRequest) -> Any:
    stub: Any = services.logs  # its types know the synchronous channel
    return stub.Read(request)


def _lines(batch: LogBatch) -> list[Line]:
    return [
        Line(
            time=datetime.fromtimestamp(moment / 1e6, UTC).strftime("%H:%M:%S"),
            task=batch.ref.task,
            level=LogLevel.Name(level).removeprefix("LOG_LEVEL_").lower(),  # type: ignore[arg-type]  # a byte is one
            text=text,
        )
        for moment, level, text in zip(batch.time_us, batch.levels, batch.texts, strict=True)
    ]


def _end(end: JobEnd | None) -> str:
    """Return what a log ends with, for a person."""
    if end is None or end.open:
        return ""
    if end.deleted_by:
        return f"The lines were deleted by {end.deleted_by}"
    whole = "and the log is complete" if end.complete else "and lines are missing"
    return f"The job has ended as {JobState.Name(end.state).removeprefix('JOB_STATE_')}, {whole}"


async def log_page(visit: Visit) -> Response:
    """Show the last lines of a job's log, as the query selects them."""
    asked = Asked.of(visit.asked)
    await answered(found(visit.services, visit.job))
    page = await last(visit.services, visit.job, asked)
    return visit.show("log.html", number=visit.job, asked=asked, page=page)


async def live(visit: Visit) -> Response:
    """Send a job's lines as they are written, from an offset on, as server-sent events."""
    # A browser that lost its connection says where it was.
    offset = number(visit.request.headers.get("last-event-id") or visit.asked.get("offset"))
    if broken := await again(found(visit.services, visit.job)):
        return stream(broken)
    return stream(events(visit.services, visit.job, Asked.of(visit.asked), offset))


async def download(visit: Visit) -> Response:
    """Send a job's whole log as a file."""
    await answered(found(visit.services, visit.job))
    pieces = text(visit.services, visit.job)
    first = await anext(pieces, "")  # what is refused is refused before the file begins

    async def whole() -> AsyncIterator[str]:
        yield first
        async for piece in pieces:
            yield piece

    headers = {"content-disposition": f'attachment; filename="job-{visit.job}.log"'}
    return StreamingResponse(whole(), media_type="text/plain; charset=utf-8", headers=headers)


ROUTES: tuple[Route, ...] = (
    ("GET", "/jobs/{job:int}/log", log_page),
    ("GET", "/jobs/{job:int}/log/live", live),
    ("GET", "/jobs/{job:int}/log.txt", download),
)
