"""Products as astropy objects, and compared. What needs the astronomy on the client is here, loaded when asked for."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpu.errors import UsageError
from dpu.fetch import read

try:
    import numpy as np
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


def compared(link: Link, one: Frame, other: Frame) -> tuple[int, int, float]:
    """Return how many pixels two images have, in how many they differ, and the largest difference.

    Raises UsageError where they are not of one size.
    """
    first, second = (_image(hdus) for hdus in opened(link, [one, other]))
    if first.shape != second.shape:
        raise UsageError(f"{one.file_name} has {first.shape} pixels (y, x), {other.file_name} {second.shape}")
    differ = ~((first == second) | (np.isnan(first) & np.isnan(second)))
    largest = float(np.nanmax(np.abs(first - second)[differ], initial=0.0))
    return int(first.size), int(differ.sum()), largest


def _image(hdus: Any) -> Any:
    """Return the image of a file as float64, and close it."""
    with hdus:
        return np.asarray(hdus[0].data, dtype="float64")


def _opened(link: Link, frame: Frame) -> Any:
    if frame.path and Path(frame.path).is_file():
        return fits.open(frame.path, mode="readonly")
    content = BytesIO()
    read(link, frame, content)
    content.seek(0)
    return fits.open(content, mode="readonly")
