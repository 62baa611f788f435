"""Frames of the archive, as a user sees them; products of jobs above all."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpu.errors import NotFound, UsageError
from dpu.joblog import tasks_of
from dpu.values import Plain, from_map
from dpu_api.v1.archive_pb2 import Frame, ListFramesRequest, Selection
from dpu_api.v1.scheduler_pb2 import GetJobRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.timestamp_pb2 import Timestamp

    from dpu.link import Link

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: What goes with a product: a picture of it, with what it was held to, as PNG.
QUALITY_FIGURE = "QualityFigure"
#: Of a product, and of a raw frame.
_IDENTIFIER = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")
#: Frames that a message names.
_FEW = 3


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Product:
    """A frame of the archive: an object that a job committed, or a raw one."""

    #: Opaque: the archive's identifier.
    id: str
    #: 'BiasFrame', 'ReadNoise'
    frame_class: str
    instrument: str
    chip: str
    filter: str = ""
    object: str = ""
    #: Start of the exposure, UTC; of a product, of its first input.
    date_obs: datetime = EPOCH
    #: 'CCYY-MM-DD', the night that begins that evening.
    night: str = ""
    file_name: str = ""
    #: Where the file is, when the archive is on this machine; and the figure of its quality, a PNG.
    path: Path | None = None
    figure: Path | None = None
    #: What its class measures: {'READNOISE': 2.34}.
    values: Mapping[str, Plain] = field(default_factory=dict)
    #: Bits; 0: nothing to complain of. What they mean: docs/reference/recipes.md.
    quality_flags: int = 0
    is_valid: bool = True
    #: When it may be used as a calibration, UTC.
    timestamp_start: datetime = EPOCH
    timestamp_end: datetime = EPOCH
    creation_date: datetime = EPOCH
    #: Identifiers of the frames that it was made from, process parameters, and the code that made it.
    inputs: tuple[str, ...] = ()
    parameters: Mapping[str, Plain] = field(default_factory=dict)
    code_digest: str = ""
    #: Whose it is, how far it is seen (docs/reference/access.md), and the job that made it, 0 of a raw frame.
    user: str = ""
    project: str = ""
    privileges: int = 0
    job: int = 0

    def __repr__(self) -> str:
        flagged = f", quality_flags {self.quality_flags}" if self.quality_flags else ""
        rejected = "" if self.is_valid else ", not valid"
        what = " ".join(filter(None, (self.frame_class, self.instrument, self.chip, self.filter, self.night)))
        return f"<{what}: {self.file_name}{flagged}{rejected}>"


def to_product(frame: Frame, figure: Frame | None = None) -> Product:
    """Return a frame of the archive as a product, with its figure where that is known."""
    return Product(
        id=frame.id,
        frame_class=frame.frame_class,
        instrument=frame.instrument,
        chip=frame.chip,
        filter=frame.filter,
        object=frame.object,
        date_obs=_time(frame.date_obs),
        night=frame.night,
        file_name=frame.file_name,
        path=Path(frame.path) if frame.path else None,
        figure=Path(figure.path) if figure and figure.path else None,
        values=from_map(frame.values),
        quality_flags=frame.quality_flags,
        is_valid=frame.is_valid,
        timestamp_start=_time(frame.timestamp_start),
        timestamp_end=_time(frame.timestamp_end),
        creation_date=_time(frame.creation_date),
        inputs=tuple(frame.inputs),
        parameters=from_map(frame.parameters),
        code_digest=frame.code_digest,
        user=frame.user,
        project=frame.project,
        privileges=frame.privileges,
        job=frame.ref.job_id,
    )


def results(link: Link, job_id: int) -> list[Product]:
    """Return what a job has committed in its last stage so far, by chip. Raises NotFound for an unknown job.

    A job without commit has none.
    """
    job = link.ask(lambda services: services.scheduler.GetJob, GetJobRequest(job_id=job_id)).job
    if not job.commit:
        return []
    figures = figures_of(link, job_id)
    return [to_product(frame, figures.get(frame.id)) for frame in made(link, job_id) if frame.published]


def figures_of(link: Link, job_id: int) -> dict[str, Frame]:
    """Return the figures of what a job has made, by the identifier of the product that each is of."""
    found = frames_of(link, job_id=job_id, only_job=True, frame_class=QUALITY_FIGURE)
    return {figure.inputs[0]: figure for figure in found if figure.inputs}


def made(link: Link, job_id: int) -> list[Frame]:
    """Return what a job has made in its last stage so far, committed or not, by chip. Raises NotFound."""
    stages = {task.ref.task: task.stage for task in tasks_of(link, job_id)}
    last = max(stages.values(), default=0)
    frames = [
        frame
        for frame in frames_of(link, job_id=job_id, only_job=True)
        if stages.get(frame.ref.task) == last and frame.frame_class != QUALITY_FIGURE
    ]
    return sorted(frames, key=lambda frame: (frame.chip, frame.file_name))


def find_frame(link: Link, what: object) -> Frame:
    """Return the frame that is meant by a product, an identifier or a file name. Raises NotFound and UsageError."""
    if isinstance(what, Product):
        (found,) = frames_of(link, ids=[what.id], job_id=what.job)
        return found
    if not isinstance(what, str) or not what:
        raise UsageError(f"{what!r} is no frame: give a product, its identifier or its file name")
    if _IDENTIFIER.fullmatch(what):
        (found,) = frames_of(link, ids=[what])
        return found
    named = frames_of(link, selection=Selection(file_names=[what]))
    if not named:
        raise NotFound(f"no frame that you see has the file name {what!r}")
    if len(named) > 1:
        names = ", ".join(frame.file_name for frame in named[:_FEW])
        raise UsageError(f"{what!r} names {len(named)} frames: give the name of one, as {names}")
    return named[0]


def frames_of(link: Link, **asked: Any) -> list[Frame]:
    """Return all frames that fit the fields of a ListFramesRequest."""
    return frames_asked(link, ListFramesRequest(**asked))


def frames_asked(link: Link, asked: ListFramesRequest) -> list[Frame]:
    """Return all frames that fit a request."""
    frames: list[Frame] = []
    request = ListFramesRequest()
    request.CopyFrom(asked)
    while True:
        page = link.ask(lambda services: services.archive.ListFrames, request)
        frames.extend(page.frames)
        if not page.next_page_token:
            return frames
        request.page_token = page.next_page_token


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)
