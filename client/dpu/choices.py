"""Which calibrations a frame would be reduced with, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpu.products import find_frame
from dpu_api.v1.archive_pb2 import ListCalibrationsRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpu.link import Link


def explained(link: Link, what: object) -> Iterator[str]:
    """Yield a line for the frame, then one a class of calibrations: what was chosen, why, or why there is none."""
    frame = find_frame(link, what)
    request = ListCalibrationsRequest(frame_id=frame.id, job_id=frame.ref.job_id)
    choices = link.ask(lambda services: services.archive.ListCalibrations, request).choices
    through = f", filter {frame.filter}" if frame.filter else ""
    yield f"{frame.frame_class} {frame.file_name} ({frame.instrument} {frame.chip}, night {frame.night}{through})"
    width = max((len(choice.frame_class) for choice in choices), default=0)
    for choice in choices:
        named = f"{choice.frame.file_name}: " if choice.HasField("frame") else ""
        yield f"  {choice.frame_class:{width}}  {named}{choice.why}"
