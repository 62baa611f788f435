"""What a job has made, and the instrument it made it for, as the archive has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from dpu.errors import DpuError
from dpu.products import QUALITY_FIGURE
from dpu_api.v1 import archive_pb2 as pb
from dpud.web.calls import DEADLINE_S, answered

if TYPE_CHECKING:
    from dpud.web.visitors import Services

#: So many frames of a job are listed.
MOST = 400


@dataclass(frozen=True, slots=True)
class ProductRow:
    """A frame, as a row and as a link."""

    path: str
    frame_class: str
    chip: str
    filter: str
    name: str
    quality: str


@dataclass(frozen=True, slots=True)
class Products:
    """The products of a job."""

    rows: tuple[ProductRow, ...]
    #: Whether there are more than are listed.
    more: bool
    #: Why there are none to show; '' where the archive has answered.
    missing: str = ""


def frame_path(frame: pb.Frame, part: str = "") -> str:
    """Return where a frame's page is, or a part of it; what is staged is seen with its job alone."""
    staged = frame.ref.job_id and not frame.published
    return f"/frames/{quote(frame.id, safe='')}{part}" + (f"?job={frame.ref.job_id}" if staged else "")


def quality_of(frame: pb.Frame) -> str:
    """Return in a word whether a product may be used."""
    if not frame.is_valid:
        return "invalid"
    return "flagged" if frame.quality_flags else "good"


async def products_of(services: Services, job: int) -> Products:
    """Return what a job has made so far. What the archive refuses is said, and no error."""
    asked = pb.ListFramesRequest(job_id=job, only_job=True, page_size=MOST)
    try:
        answer = await answered(services.archive.ListFrames(asked, timeout=DEADLINE_S))
    except DpuError as error:
        return Products((), more=False, missing=error.message)
    rows = (
        ProductRow(
            path=frame_path(frame),
            frame_class=frame.frame_class,
            chip=frame.chip,
            filter=frame.filter,
            name=frame.file_name,
            quality=quality_of(frame),
        )
        for frame in answer.frames
        if frame.frame_class != QUALITY_FIGURE
    )
    return Products(tuple(rows), more=bool(answer.next_page_token))


async def known_instrument(services: Services, name: str) -> pb.Instrument:
    """Return an instrument by name, with nothing in it where the archive does not tell."""
    try:
        answer = await answered(services.archive.ListInstruments(pb.ListInstrumentsRequest(), timeout=DEADLINE_S))
    except DpuError:
        return pb.Instrument(name=name)
    return next((found for found in answer.instruments if found.name == name), pb.Instrument(name=name))
