"""A frame of the archive, a product above all: how it looks, how good it is, what it came from, its header and file."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from dpu.errors import DpuError, NotFound
from dpu.products import QUALITY_FIGURE
from dpu.values import from_map
from dpu_api.v1 import archive_pb2 as pb
from dpud.web.calls import DEADLINE_S, answered
from dpud.web.lineage import Traced, picture
from dpud.web.products import frame_path, quality_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from google.protobuf.timestamp_pb2 import Timestamp

    from dpu_api.v1.archive_pb2 import Frame
    from dpud.web.visit import Route, Visit
    from dpud.web.visitors import Services

#: Of a lineage: so many frames are enough for a picture.
MOST_FRAMES = 2000
#: A file may be as large as it likes.
FILE_DEADLINE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Limit:
    """What a product was held to."""

    name: str
    measured: str
    limit: str
    is_kept: bool


async def frame(visit: Visit) -> Response:
    """Show a frame."""
    services, job = visit.services, visit.number("job")
    found = await _found(services, visit.request.path_params["frame"], job)
    image, header, sources, results, figures = await asyncio.gather(
        _image(services, found, job),
        _header(services, found, job),
        _traced(services, found, job, is_progeny=False),
        _traced(services, found, job, is_progeny=True),
        _figures(services, found),
    )
    return visit.show(
        "frame.html",
        frame=found,
        here=f"/frames/{quote(found.id, safe='')}",
        query=f"?job={job}" if job else "",
        times={name: _time(getattr(found, name)) for name in ("date_obs", "timestamp_start", "timestamp_end")},
        quality=quality_of(found) if found.ref.job_id else "",
        limits=_limits(from_map(found.limits)),
        values={name: _shown(value) for name, value in from_map(found.values).items()},
        parameters=from_map(found.parameters),
        image=image,
        header="\n".join(header),
        figures=[frame_path(each, "/figure.png") for each in figures],
        lineage=picture(found, sources, results),
        cut=max(len(sources.frames), len(results.frames)) >= MOST_FRAMES,
    )


async def image(visit: Visit) -> Response:
    """Send the picture of a frame's image."""
    asked = pb.DrawFrameRequest(id=visit.request.path_params["frame"], job_id=visit.number("job"))
    drawn = await answered(visit.services.archive.DrawFrame(asked, timeout=DEADLINE_S))
    # What a frame is never changes.
    return Response(drawn.png, media_type="image/png", headers={"cache-control": "private, max-age=86400"})


async def download(visit: Visit) -> Response:
    """Send a frame's file, as it arrives."""
    call, first, answers = await _fetched(visit)
    headers = {
        "content-disposition": f'attachment; filename="{file_name(first)}"',
        "content-length": str(first.size),
    }
    return StreamingResponse(_chunks(call, answers), media_type="application/fits", headers=headers)


async def figure(visit: Visit) -> Response:
    """Send the figure of a product's quality, which its recipe drew."""
    call, first, answers = await _fetched(visit)
    if first.frame_class != QUALITY_FIGURE:
        call.cancel()
        raise NotFound(f"this is a {first.frame_class}, and no figure")
    headers = {"content-length": str(first.size)}
    return StreamingResponse(_chunks(call, answers), media_type="image/png", headers=headers)


async def _fetched(visit: Visit) -> tuple[Any, Frame, AsyncIterator[pb.FetchFrameResponse]]:
    """Return a call for a frame's file, the frame, and what is still to come. Raises DpuError."""
    archive: Any = visit.services.archive  # the stub's types know the synchronous channel
    asked = pb.FetchFrameRequest(id=visit.request.path_params["frame"], job_id=visit.number("job"))
    call = archive.FetchFrame(asked, timeout=FILE_DEADLINE_S)
    # What is refused is refused before the file begins.
    answers = aiter(call)
    first = await answered(anext(answers, None))
    if first is None or not first.frame.size:
        raise NotFound("this frame has no file: it is only values")
    return call, first.frame, answers


def file_name(frame: Frame) -> str:
    """Return a name that a browser may save a frame under: nothing in it leads elsewhere."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", frame.file_name).lstrip(".") or "frame.fits"


async def _chunks(call: Any, answers: AsyncIterator[pb.FetchFrameResponse]) -> AsyncIterator[bytes]:
    try:
        async for answer in answers:
            yield answer.chunk
    finally:
        call.cancel()  # whoever asked may have gone


async def _found(services: Services, identifier: str, job: int) -> Frame:
    """Return a frame. Raises DpuError."""
    asked = pb.ListFramesRequest(ids=[identifier], job_id=job)
    answer = await answered(services.archive.ListFrames(asked, timeout=DEADLINE_S))
    if not answer.frames:
        raise NotFound(f"there is no frame {identifier}")
    found: Frame = answer.frames[0]
    return found


async def _image(services: Services, found: Frame, job: int) -> pb.DrawFrameResponse | None:
    """Return what is told of a frame's picture; None where it has none."""
    if not found.size:
        return None
    try:
        call = services.archive.DrawFrame(pb.DrawFrameRequest(id=found.id, job_id=job), timeout=DEADLINE_S)
        drawn: pb.DrawFrameResponse = await answered(call)
    except DpuError:
        return None
    return drawn


async def _header(services: Services, found: Frame, job: int) -> list[str]:
    if not found.size:
        return []
    call = services.archive.ReadHeader(pb.ReadHeaderRequest(id=found.id, job_id=job), timeout=DEADLINE_S)
    return list((await answered(call)).cards)


async def _figures(services: Services, found: Frame) -> list[Frame]:
    """Return what a recipe drew of a product's quality."""
    job = found.ref.job_id
    if not job:
        return []
    chip = pb.Selection(instrument=found.instrument, chips=[found.chip] if found.chip else [])
    asked = pb.ListFramesRequest(job_id=job, only_job=True, frame_class=QUALITY_FIGURE, selection=chip)
    answer = await answered(services.archive.ListFrames(asked, timeout=DEADLINE_S))
    return [each for each in answer.frames if found.id in each.inputs]


async def _traced(services: Services, found: Frame, job: int, *, is_progeny: bool) -> Traced:
    """Return what a frame was made from, or what was made from it."""
    archive: Any = services.archive  # the stub's types know the synchronous channel
    asked = pb.TraceLineageRequest(id=found.id, job_id=job, progeny=is_progeny)
    frames: list[Frame] = []
    links: list[pb.Link] = []
    call = archive.TraceLineage(asked, timeout=DEADLINE_S)
    answers = aiter(call)
    while len(frames) < MOST_FRAMES and (answer := await answered(anext(answers, None))) is not None:
        frames += answer.frames
        links += answer.links
    call.cancel()
    return Traced(frames, links, is_progeny=is_progeny)


def _limits(limits: Mapping[str, Any]) -> list[Limit]:
    return [
        Limit(name, f"{row['measured']:.6g}", f"{row['limit']:.6g}", abs(row["measured"]) <= row["limit"])
        for name, row in sorted(limits.items())
    ]


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _time(stamp: Timestamp) -> str:
    return f"{stamp.ToDatetime(tzinfo=UTC):%Y-%m-%d %H:%M:%S}" if stamp.seconds else ""


ROUTES: tuple[Route, ...] = (
    ("GET", "/frames/{frame}", frame),
    ("GET", "/frames/{frame}/image.png", image),
    ("GET", "/frames/{frame}/figure.png", figure),
    ("GET", "/frames/{frame}/file.fits", download),
)
