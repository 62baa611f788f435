"""Products of jobs, as a user sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpu.joblog import tasks_of
from dpu.values import Plain, from_map
from dpu_api.v1.archive_pb2 import Frame, ListFramesRequest
from dpu_api.v1.scheduler_pb2 import GetJobRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.timestamp_pb2 import Timestamp

    from dpu.link import Link

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """An object that a job committed."""

    #: Opaque: the archive's identifier.
    id: str = field(repr=False)
    #: 'BiasFrame', 'ReadNoise'
    frame_class: str
    instrument: str
    chip: str
    filter: str = field(default="", repr=False)
    #: 'CCYY-MM-DD', the night that begins that evening.
    night: str = ""
    file_name: str = ""
    #: Where the file is, when the archive is on this machine.
    path: Path | None = None
    #: What its class measures: {'READNOISE': 2.34}.
    values: Mapping[str, Plain] = field(default_factory=dict)
    #: Bits; 0: nothing to complain of. What they mean: docs/reference/recipes.md.
    quality_flags: int = 0
    is_valid: bool = True
    #: When it may be used as a calibration, UTC.
    timestamp_start: datetime = field(default=EPOCH, repr=False)
    timestamp_end: datetime = field(default=EPOCH, repr=False)
    creation_date: datetime = field(default=EPOCH, repr=False)
    #: Identifiers of the frames that it was made from, process parameters, and the code that made it.
    inputs: tuple[str, ...] = field(default=(), repr=False)
    parameters: Mapping[str, Plain] = field(default_factory=dict, repr=False)
    code_digest: str = field(default="", repr=False)


def to_product(frame: Frame) -> Product:
    """Return a frame of the archive as a product."""
    return Product(
        id=frame.id,
        frame_class=frame.frame_class,
        instrument=frame.instrument,
        chip=frame.chip,
        filter=frame.filter,
        night=frame.night,
        file_name=frame.file_name,
        path=Path(frame.path) if frame.path else None,
        values=from_map(frame.values),
        quality_flags=frame.quality_flags,
        is_valid=frame.is_valid,
        timestamp_start=_time(frame.timestamp_start),
        timestamp_end=_time(frame.timestamp_end),
        creation_date=_time(frame.creation_date),
        inputs=tuple(frame.inputs),
        parameters=from_map(frame.parameters),
        code_digest=frame.code_digest,
    )


def results(link: Link, job_id: int) -> list[Product]:
    """Return what a job has committed in its last stage so far, by chip. Raises NotFound for an unknown job.

    A job without commit has none.
    """
    job = link.ask(lambda services: services.scheduler.GetJob, GetJobRequest(job_id=job_id)).job
    return [to_product(frame) for frame in made(link, job_id) if frame.published] if job.commit else []


def made(link: Link, job_id: int) -> list[Frame]:
    """Return what a job has made in its last stage so far, committed or not, by chip. Raises NotFound."""
    stages = {task.ref.task: task.stage for task in tasks_of(link, job_id)}
    last = max(stages.values(), default=0)
    frames = [frame for frame in frames_of(link, job_id=job_id, only_job=True) if stages.get(frame.ref.task) == last]
    return sorted(frames, key=lambda frame: (frame.chip, frame.file_name))


def frames_of(link: Link, **asked: Any) -> list[Frame]:
    """Return all frames that fit the fields of a ListFramesRequest."""
    frames: list[Frame] = []
    request = ListFramesRequest(**asked)
    while True:
        page = link.ask(lambda services: services.archive.ListFrames, request)
        frames.extend(page.frames)
        if not page.next_page_token:
            return frames
        request.page_token = page.next_page_token


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)
