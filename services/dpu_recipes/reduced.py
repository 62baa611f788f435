"""Takes in images that were reduced elsewhere, and weights, masks and models of the point spread with them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from dpu_recipes.exposure import BadExposure, planes, split
from dpu_recipes.frames import read_image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dpu_recipes.frames import Frame
    from dpu_recipes.instruments import Instruments

#: What may belong to an image, with the ending of its file.
ENDINGS: Final[Mapping[str, str]] = {"WeightFrame": "weight", "MaskFrame": "mask", "PsfModel": "psf"}
_PSF: Final = "PsfModel"


class Companion(NamedTuple):
    """A file that belongs to an image."""

    frame_class: str
    file: Path
    #: For messages.
    name: str


def adopt(
    file: Path, name: str, companions: Sequence[Companion], instruments: Instruments, folder: Path, *, instrument: str
) -> list[tuple[Frame, Path]]:
    """Split a reduced FITS file and what belongs to it into files in `folder`, and describe each.

    The images come first, one a chip, then for each companion one for each of them; a model of the point spread is one
    file, kept as it is, for all. Raises BadExposure and OSError; nothing is left in `folder` then.
    """
    images = split(file, name, instruments, folder, instrument=instrument, reduced=True)
    made = list(images)
    try:
        for companion in companions:
            _check_class(companion)
            belonging = [_belonging(companion.frame_class, image, path) for image, path in images]
            take = _model if companion.frame_class == _PSF else _planes
            made += take(companion, images, belonging)
    except BaseException:
        for _, path in made:
            path.unlink(missing_ok=True)
        for kind in ENDINGS.values():
            for left in folder.glob(f"*.{kind}.fits"):
                left.unlink()
        raise
    return made


def _check_class(companion: Companion) -> None:
    if companion.frame_class not in ENDINGS:
        known = ", ".join(ENDINGS)
        raise BadExposure(f"{companion.name}: {companion.frame_class!r} belongs to no image; {known} may")


def _belonging(frame_class: str, image: Frame, path: Path) -> tuple[Frame, Path]:
    """Return the record of what belongs to an image, and the place of its file."""
    file_name = f"{image.file_name.removesuffix('.fits')}.{ENDINGS[frame_class]}.fits"
    values = {name: value for name, value in image.values.items() if name != "EXPOSURE"}
    record = image.evolve(frame_class=frame_class, file_name=file_name, values={**values, "OF": image.id})
    return record, path.with_name(file_name)


def _planes(
    companion: Companion, images: Sequence[tuple[Frame, Path]], belonging: Sequence[tuple[Frame, Path]]
) -> list[tuple[Frame, Path]]:
    found = planes(companion.file, companion.name, [path for _, path in belonging])
    for plane, (image, path) in zip(found, images, strict=True):
        wanted = read_image(path)[0].shape
        if plane.shape != wanted:
            sizes = " and ".join(f"{shape[1]} x {shape[0]}" for shape in (plane.shape, wanted))
            raise BadExposure(
                f"{companion.name}: is no {companion.frame_class} of {image.file_name}: {sizes} pixels differ"
            )
    return [
        (_named(record, companion, plane.digest, plane.size), path)
        for plane, (record, path) in zip(found, belonging, strict=True)
    ]


def _model(
    companion: Companion, _images: Sequence[tuple[Frame, Path]], belonging: Sequence[tuple[Frame, Path]]
) -> list[tuple[Frame, Path]]:
    if len(belonging) != 1:
        raise BadExposure(f"{companion.name}: is one model for {len(belonging)} images: bring them in one by one")
    ((record, path),) = belonging
    with companion.file.open("rb") as reading:
        if reading.read(9) != b"SIMPLE  =":
            raise BadExposure(f"{companion.name}: is no FITS file")
    shutil.copyfile(companion.file, path)
    with path.open("rb") as reading:
        digest = hashlib.file_digest(reading, "sha256").hexdigest()
    return [(_named(record, companion, digest, path.stat().st_size), path)]


def _named(record: Frame, companion: Companion, digest: str, size: int) -> Frame:
    """Return a record with its content. The same weight may be of two images: each has its own identifier."""
    identifier = hashlib.sha256(f"{digest}, {record.frame_class} of {record.values['OF']}".encode()).hexdigest()
    values = {**record.values, "EXPOSURE": Path(companion.name).name}
    return record.evolve(id=identifier, digest=digest, size=size, values=values)
