"""The archive as a recipe sees it: a port of five calls. Adapters: archive_folder, and the task process's channel."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dpu_recipes.frames import Frame


class ArchiveError(Exception):
    """The archive could not do that; the message says what to do."""


class MissingCalibration(ArchiveError):
    """No valid calibration covers the frame; the message names the nearest ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which frames: all that fit every field that is given."""

    instrument: str
    #: 'CCYY-MM-DD'; '' any.
    night: str = ""
    #: () any.
    chips: tuple[str, ...] = ()
    filter: str = ""
    #: With * and ?.
    object: str = ""
    #: File names, of one chip's frame or of the exposure as it was ingested; they override the rest.
    file_names: tuple[str, ...] = ()
    #: Of products (dpu_recipes.identity).
    identity: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the selection as JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Return the selection that `to_dict` gave."""
        tuples = {name: tuple(record.get(name, ())) for name in ("chips", "file_names")}
        return cls(**{**record, **tuples})


class Archive(Protocol):
    """What a recipe may ask of the archive. It sees its project's frames and those its own job has made."""

    def select(self, frame_class: str, selection: Selection) -> list[Frame]:
        """Return the frames of a class, in order of DATE-OBS and chip. Nothing found is an empty list."""
        ...

    def find(self, frame_id: str) -> Frame:
        """Return one frame by its identifier. Raises ArchiveError where there is none."""
        ...

    def calibration(self, frame_class: str, frame: Frame, *, overscan: int | None = None) -> Frame:
        """Return the calibration of a class that is valid for `frame`.

        The rules are those of docs/reference/validity.md; the choice and why is logged. `overscan` asks for a
        product of that overscan method. Raises MissingCalibration.
        """
        ...

    def open(self, frame: Frame) -> Path:
        """Return the frame's FITS file, read-only: one image HDU (the primary) for raw frames and products."""
        ...

    def save(self, product: Frame, file: Path | None = None) -> Frame:
        """Stage a product and return it with its identifier and file name.

        `file` was written by the recipe in its scratch folder and is the archive's from now on; None for a product
        that is only values. It becomes visible to others when the task has ended well.
        """
        ...
