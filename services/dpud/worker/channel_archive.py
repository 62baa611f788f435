"""The archive as a task sees it: an adapter of dpu_recipes.archive.Archive over the channel to the agent.

Imported by the runner when the tree that runs is first on sys.path, so that Frame is that tree's own.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpu_recipes.archive import Archive, ArchiveError, MissingCalibration
from dpu_recipes.frames import Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpu_recipes.archive import Selection
    from dpud.worker.channel import Channel

log = logging.getLogger("dpu_recipes.archive")

ERRORS: dict[str, type[ArchiveError]] = {"MissingCalibration": MissingCalibration}
#: So many inputs of a task are asked for in one question: with all their values, far less than fits into a message.
TOGETHER = 200


class ChannelArchive(Archive):
    """Asks the agent, which asks the archive service; what was answered once is not asked again.

    A task's inputs are asked for together, and with each frame comes its file where the node has it: it is opened
    without another question.
    """

    def __init__(self, channel: Channel, inputs: Sequence[str] = ()) -> None:
        self._channel = channel
        self._inputs = inputs
        self._found: dict[str, Frame] = {}
        # By identifier of the frame; they stay where they are until the task ends.
        self._files: dict[str, str] = {}
        # One question at a time: the answers come in order.
        self._asking = threading.Lock()

    def select(self, frame_class: str, selection: Selection) -> list[Frame]:
        """Return the frames of a class, in order of DATE-OBS and chip."""
        found = self._ask("select", frame_class=frame_class, selection=selection.to_dict())
        return list(map(Frame.from_dict, found))

    def find(self, frame_id: str) -> Frame:
        """Return one frame by its identifier. Raises ArchiveError where there is none."""
        if frame_id not in self._found and frame_id in self._inputs:
            self._look_up_inputs(frame_id)
        if frame_id not in self._found:
            self._look_up([frame_id])
        return self._found[frame_id]

    def _look_up_inputs(self, first: str) -> None:
        """Look up an input, and those that will be asked for next; where one is not there, none."""
        others = [other for other in self._inputs if other != first and other not in self._found]
        try:
            self._look_up([first, *others[: TOGETHER - 1]])
        except ArchiveError:
            # Asked for by itself, the one that is not there is named.
            self._inputs = ()

    def _look_up(self, frame_ids: list[str]) -> None:
        found = self._ask("find", frame_ids=frame_ids)
        self._files |= found["files"]
        frames = map(Frame.from_dict, found["frames"])
        self._found |= {frame.id: frame for frame in frames}

    def calibration(self, frame_class: str, frame: Frame, *, overscan: int | None = None) -> Frame:
        """Return the calibration of a class that is valid for `frame`. Raises MissingCalibration."""
        found = self._ask("calibration", frame_class=frame_class, frame_id=frame.id, overscan=overscan)
        self._files |= found["files"]
        chosen = Frame.from_dict(found["frame"])
        log.info("Using %s %s: %s", frame_class, chosen.file_name or chosen.id, found["why"])
        return chosen

    def open(self, frame: Frame) -> Path:
        """Return the frame's FITS file, read-only."""
        path = self._files.get(frame.id)
        # Where it is the archive's own, it may have gone since.
        if path is None or not os.access(path, os.R_OK):
            path = self._files[frame.id] = self._ask("open", frame_id=frame.id)
        return Path(path)

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
