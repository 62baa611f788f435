"""The archive as a task sees it: an adapter of dpu_recipes.archive.Archive over the channel to the agent.

Imported by the runner when the tree that runs is first on sys.path, so that Frame is that tree's own.
"""

from __future__ import annotations

import logging
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpu_recipes.archive import Archive, ArchiveError, MissingCalibration
from dpu_recipes.frames import Frame

if TYPE_CHECKING:
    from dpu_recipes.archive import Selection
    from dpud.worker.channel import Channel

log = logging.getLogger("dpu_recipes.archive")

ERRORS: dict[str, type[ArchiveError]] = {"MissingCalibration": MissingCalibration}


class ChannelArchive(Archive):
    """Asks the agent, which asks the archive service."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        # One question at a time: the answers come in order.
        self._asking = threading.Lock()

    def select(self, frame_class: str, selection: Selection) -> list[Frame]:
        """Return the frames of a class, in order of DATE-OBS and chip."""
        found = self._ask("select", frame_class=frame_class, selection=selection.to_dict())
        return list(map(Frame.from_dict, found))

    def find(self, frame_id: str) -> Frame:
        """Return one frame by its identifier. Raises ArchiveError where there is none."""
        return Frame.from_dict(self._ask("find", frame_id=frame_id))

    def calibration(self, frame_class: str, frame: Frame, *, overscan: int | None = None) -> Frame:
        """Return the calibration of a class that is valid for `frame`. Raises MissingCalibration."""
        found = self._ask("calibration", frame_class=frame_class, frame_id=frame.id, overscan=overscan)
        chosen = Frame.from_dict(found["frame"])
        log.info("Using %s %s: %s", frame_class, chosen.file_name or chosen.id, found["why"])
        return chosen

    def open(self, frame: Frame) -> Path:
        """Return the frame's FITS file, read-only."""
        return Path(self._ask("open", frame_id=frame.id))

    def save(self, product: Frame, file: Path | None = None) -> Frame:
        """Stage a product and return it with its identifier and file name."""
        path = None if file is None else str(_shared(Path(file).absolute()))
        return Frame.from_dict(self._ask("save", product=product.to_dict(), file=path))

    def _ask(self, call: str, **arguments: Any) -> Any:
        with self._asking:
            self._channel.send({"ask": call, "arguments": arguments})
            answer = self._channel.answer()
        if answer is None:
            # Nobody is left to work for.
            raise SystemExit("the agent is gone")
        if "error" in answer:
            raise ERRORS.get(answer["error"], ArchiveError)(answer["message"])
        return answer["result"]


def _shared(file: Path) -> Path:
    """Return a file; one of this task's own can be read by its group afterwards, and so by an agent next door."""
    scratch = Path.home()
    own = [place for place in (file, *file.parents) if scratch in place.parents]
    for place in own:
        with suppress(OSError):
            if not place.is_symlink():
                place.chmod(stat.S_IMODE(place.stat().st_mode) | (0o050 if place.is_dir() else 0o040))
    return file
