"""Products as astropy objects. What needs the astronomy on the client is here, and loaded when it is asked for."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpu.errors import UsageError
from dpu.fetch import read

try:
    from astropy.io import fits
except ImportError as error:
    raise UsageError("astropy is not installed here: pip install 'dpu[recipes]'") from error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpu.link import Link
    from dpu_api.v1.archive_pb2 import Frame


def opened(link: Link, frames: Sequence[Frame]) -> list[Any]:
    """Return the files of frames as astropy.io.fits.HDUList, in their order.

    Where the archive is on this machine its files are read in place, as they are needed; else they are brought here.
    """
    return [_opened(link, frame) for frame in frames]


def _opened(link: Link, frame: Frame) -> Any:
    if frame.path and Path(frame.path).is_file():
        return fits.open(frame.path, mode="readonly")
    content = BytesIO()
    read(link, frame, content)
    content.seek(0)
    return fits.open(content, mode="readonly")
