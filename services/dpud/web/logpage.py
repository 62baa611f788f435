"""The log of a job: its last lines, what comes, all of it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import grpc
import structlog
from starlette.responses import StreamingResponse

from dpu_api.v1.job_pb2 import JobState
from dpu_api.v1.logs_pb2 import JobEnd, LogLevel, ReadRequest
from dpud.web.calls import RETRY, again, answered, found, stream
from dpud.web.visit import number

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.responses import Response

    from dpu_api.v1.logs_pb2 import LogBatch, ReadResponse
    from dpud.web.visit import Route, Visit
    from dpud.web.visitors import Services

log = structlog.get_logger(__name__)

#: Lines of a page. A log of millions costs no more.
LINES = 500
#: Of a longer line, a page shows the begin.
LONGEST = 2000
#: How long lines that fit are looked for before those that were found are shown, and how many lines at a time.
SEARCH_S, STRETCH = 0.2, 20_000
LEVELS = {"": 0} | {name: LogLevel.Value(f"LOG_LEVEL_{name.upper()}") for name in ("info", "warning", "error")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which lines are shown: the last, or those behind or in front of an offset."""

    text: str = ""
    level: str = ""
    chip: str = ""
    behind: int | None = None
    before: int = 0

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """Return what a query asks for; a level that is none is every level. Raises UsageError."""
        level = query.get("level", "")
        return cls(
            text=query.get("text", ""),
            level=level if level in LEVELS else "",
            chip=query.get("chip", ""),
            behind=number(query.get("behind")) if query.get("behind") else None,
            before=number(query.get("before")),
        )

    @property
    def is_last(self) -> bool:
        """Whether lines that come belong on this page."""
        return self.behind is None and not self.before

    @property
    def is_everything(self) -> bool:
        """Whether no line is left out."""
        return not (self.text or self.level or self.chip)

    def query(self, **place: int) -> str:
        """Return the address of the same lines in another place, without its '?'."""
        kept = {"text": self.text, "level": self.level, "chip": self.chip}
        return urlencode({name: value for name, value in kept.items() if value} | place)

    def page(self, job: int) -> ReadRequest:
        """Return the call for the lines of this page."""
        if self.behind is not None:
            return self.request(job, offset=self.behind, head=LINES)
        return self.request(job, tail=LINES, before=self.before)

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
    """A part of a log."""

    lines: list[Line]
    #: Of the first line, and where to go on behind the last.
    first: int
    offset: int
    #: More lines may come, and belong here.
    is_live: bool
    has_more: bool
    end: str


@dataclass(frozen=True, slots=True)
class Part:
    """What one call gave."""

    lines: list[Line]
    first: int
    offset: int
    end: JobEnd


async def read_page(services: Services, job: int, asked: Asked) -> LogPage:
    """Return the lines of a page; where lines are selected, those that are found soon. Raises grpc.RpcError."""
    if not asked.is_everything:
        return await _search(services, job, asked)
    part = await _part(services, asked.page(job), asked.behind or 0)
    return LogPage(
        part.lines,
        part.first,
        part.offset,
        is_live=asked.is_last and part.end.open,
        has_more=part.end.cut or (part.end.open and not asked.is_last),
        end="" if part.end.cut else _end(part.end),
    )


async def _search(services: Services, job: int, asked: Asked) -> LogPage:
    """Return lines that fit, from stretch to stretch of the log, until there are enough or the time is up."""
    last = await _part(services, ReadRequest(job_id=job, tail=1))
    low, high = asked.behind or 0, asked.before or last.offset
    lines: list[Line] = []
    deadline = time.monotonic() + SEARCH_S
    while len(lines) < LINES and low < high and time.monotonic() < deadline:
        wanted = LINES - len(lines)
        if asked.behind is None:
            begin = max(0, high - STRETCH)
            part = await _part(services, asked.request(job, offset=begin, before=high, tail=wanted))
            lines, high = part.lines + lines, part.first if len(part.lines) == wanted else begin
        else:
            stop = min(low + STRETCH, high)
            part = await _part(services, asked.request(job, offset=low, before=stop, head=wanted))
            lines, low = lines + part.lines, part.offset if len(part.lines) == wanted else stop
    offset = low if asked.behind is not None else asked.before or last.offset
    return LogPage(
        lines,
        asked.behind if asked.behind is not None else high,
        offset,
        is_live=asked.is_last and last.end.open,
        has_more=offset < last.offset,
        end="" if offset < last.offset else _end(last.end),
    )


async def _part(services: Services, request: ReadRequest, first: int = 0) -> Part:
    lines: list[Line] = []
    offset, end = first, JobEnd(open=True)
    async for answer in _read(services, request):
        offset = answer.offset or offset
        if answer.WhichOneof("item") == "batch":
            if not lines:
                # A batch is a run of lines that follow one another.
                first = answer.offset - len(answer.batch.texts)
            lines += _lines(answer.batch)
        elif answer.WhichOneof("item") == "end":
            end = answer.end
    return Part(lines, first, offset, end)


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
            yield "".join(f"{line.time} [{line.task}] {line.text}\n" for line in _lines(answer.batch, longest=None))


def _read(services: Services, request: ReadRequest) -> Any:
    stub: Any = services.logs  # its types know the synchronous channel
    return stub.Read(request)


def _lines(batch: LogBatch, longest: int | None = LONGEST) -> list[Line]:
    return [
        Line(
            time=datetime.fromtimestamp(moment / 1e6, UTC).strftime("%H:%M:%S"),
            task=batch.ref.task,
            level=LogLevel.Name(level).removeprefix("LOG_LEVEL_").lower(),  # type: ignore[arg-type]  # a byte is one
            text=text if longest is None or len(text) <= longest else text[:longest] + " ... (the file has all of it)",
        )
        for moment, level, text in zip(batch.time_us, batch.levels, batch.texts, strict=True)
    ]


def _end(end: JobEnd) -> str:
    """Return what a log ends with, for a person."""
    if end.open:
        return ""
    if end.deleted_by:
        return f"The lines were deleted by {end.deleted_by}"
    whole = "and the log is complete" if end.complete else "and lines are missing"
    return f"The job has ended as {JobState.Name(end.state).removeprefix('JOB_STATE_')}, {whole}"


async def log_page(visit: Visit) -> Response:
    """Show lines of a job's log, as the query selects them: the last, unless it says which."""
    asked = Asked.of(visit.asked)
    await answered(found(visit.services, visit.job))
    page = await read_page(visit.services, visit.job, asked)
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
