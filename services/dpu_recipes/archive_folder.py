"""An archive in a plain folder: for notebooks, for tests of recipes, for running a recipe without a DPU."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dpu_recipes import validity
from dpu_recipes.archive import ArchiveError
from dpu_recipes.exposure import split
from dpu_recipes.frames import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dpu_recipes.archive import Selection
    from dpu_recipes.instruments import Instruments

log = logging.getLogger("dpu_recipes")

_PIECE: Final = 1 << 20


class FolderArchive:
    """The port dpu_recipes.archive.Archive over a folder: files by content, a JSON record an exposure or product.

    Several processes may use one folder: a record appears in one step, after its files.
    """

    def __init__(self, folder: Path, instruments: Instruments, *, now: Callable[[], datetime] | None = None) -> None:
        self._files = folder / "files"
        self._records = folder / "records"
        self._instruments = instruments
        self._now = now or (lambda: datetime.now(UTC))
        self._frames: dict[str, Frame] = {}
        self._read: set[str] = set()
        for made in (self._files, self._records):
            made.mkdir(parents=True, exist_ok=True)

    def ingest(self, path: Path) -> list[Frame]:
        """Take in a raw FITS file and return its frames, all or none. What is there already is not added again.

        Raises dpu_recipes.exposure.BadExposure.
        """
        with tempfile.TemporaryDirectory(dir=self._files, prefix="ingest-") as scratch:
            made = split(path, path.name, self._instruments, Path(scratch))
            known = self._known()
            if all(frame.id in known for frame, _ in made):
                return [known[frame.id] for frame, _ in made]
            frames = [frame.evolve(creation_date=self._now()) for frame, _ in made]
            for frame, file in made:
                self._keep(file, frame.digest)
        self._record(frames)
        return frames

    def select(self, frame_class: str, selection: Selection) -> list[Frame]:
        """Return the frames of a class that fit, in order of DATE-OBS and chip."""
        found = [
            frame
            for frame in self._known().values()
            if frame.frame_class == frame_class and validity.matches(frame, selection)
        ]
        return sorted(found, key=lambda frame: (frame.date_obs, frame.chip, frame.creation_date, frame.id))

    def find(self, frame_id: str) -> Frame:
        """Return one frame by its identifier. Raises ArchiveError where there is none."""
        try:
            return self._known()[frame_id]
        except KeyError:
            raise ArchiveError(f"there is no frame {frame_id!r} in {self._records.parent}") from None

    def calibration(self, frame_class: str, frame: Frame, *, overscan: int | None = None) -> Frame:
        """Return the calibration that is valid for a frame. Raises MissingCalibration."""
        chosen, why = validity.choose(frame_class, frame, list(self._known().values()), overscan)
        log.info("Using %s %s (%s)", frame_class, chosen.file_name or chosen.id, why)
        return chosen

    def open(self, frame: Frame) -> Path:
        """Return the frame's FITS file. Raises ArchiveError where it has none."""
        path = self._files / f"{frame.digest}.fits"
        if not frame.digest or not path.is_file():
            raise ArchiveError(f"{frame.frame_class} {frame.file_name or frame.id!r} has no file")
        return path

    def save(self, product: Frame, file: Path | None = None) -> Frame:
        """Keep a product, at once visible, and return it with its identifier and file name. `file` is moved here."""
        product = product.evolve(creation_date=self._now(), digest="", size=0)
        if file is not None:
            digest, size = _digest_of(file)
            product = product.evolve(digest=digest, size=size)
            self._keep(file, digest)
        identifier = hashlib.sha256(_json([product]).encode()).hexdigest()
        name = f"{product.frame_class}-{product.instrument}-{product.chip}-{product.night}-{identifier[:12]}.fits"
        product = product.evolve(id=identifier, file_name=name)
        self._record([product])
        return product

    def _known(self) -> dict[str, Frame]:
        """Return all frames by identifier, those that other processes added since included."""
        new = {path.name for path in self._records.glob("*.json")} - self._read
        for name in sorted(new):
            for record in json.loads((self._records / name).read_text(encoding="utf-8")):
                frame = Frame.from_dict(record)
                self._frames[frame.id] = frame
            self._read.add(name)
        return self._frames

    def _keep(self, file: Path, digest: str) -> None:
        """Move a file to its place, durably."""
        place = self._files / f"{digest}.fits"
        part = self._files / f"{digest}.{os.getpid()}.part"
        try:
            shutil.move(file, part)
            part.chmod(0o444)
            _sync(part)
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)
        _sync(self._files)

    def _record(self, frames: list[Frame]) -> None:
        text = _json(frames)
        place = self._records / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
        part = place.with_suffix(f".{os.getpid()}.part")
        try:
            part.write_text(text, encoding="utf-8")
            _sync(part)
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)
        _sync(self._records)


def _json(frames: Iterable[Frame]) -> str:
    return json.dumps([frame.to_dict() for frame in frames], sort_keys=True, indent=1) + "\n"


def _digest_of(file: Path) -> tuple[str, int]:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest(), file.stat().st_size


def _sync(path: Path) -> None:
    """Make a file, or what a folder lists, safe from a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
