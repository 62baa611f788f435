"""Writes a simulated night: multi-extension FITS files, and the truth beside them."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from dpu_recipes.simulate import cards, truth
from dpu_recipes.simulate.counts import drifts, expose
from dpu_recipes.simulate.night import BadNight
from dpu_recipes.simulate.truth import Truth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from dpu_recipes.simulate.exposure import Exposure
    from dpu_recipes.simulate.night import Night
    from dpu_recipes.simulate.optics import Optics

#: Unsigned 16-bit counts travel as signed ones with this offset (FITS standard 4.0, section 4.4.2.5).
_ZERO = 32768


def write_night(night: Night, folder: Path) -> Truth:
    """Write a night to `folder`, which must be new or empty, and return its truth.

    The frames go to raw/, a file an exposure, the truth to truth/. The same night is the same bytes. One CCD of one
    exposure is in memory at a time. Nothing is left behind where writing fails: BadNight, InstrumentError, OSError.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadNight(f"{folder} is there and not empty: name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as part:
        # Not the temporary folder itself: that one is closed to others.
        made = folder.parent / part / folder.name
        for name in ("raw", "truth"):
            (made / name).mkdir(parents=True)
        _fill(night, made)
        made.replace(folder)
    return Truth.read(folder)


def file_name(night: Night, exposure: Exposure) -> str:
    """Return the name of an exposure's file: 'WFI.2000-04-28T19:42:56.000.fits'."""
    return f"{night.instrument.name}.{exposure.started()}.fits"


def _fill(night: Night, folder: Path) -> None:
    """Write all frames and the truth, CCD by CCD: each of them is drawn once, and its frames follow at once."""
    exposures = night.exposures()
    files = [folder / "raw" / file_name(night, exposure) for exposure in exposures]
    if not _is_single(night):
        for file, exposure in zip(files, exposures, strict=True):
            fits.PrimaryHDU(header=cards.of_exposure(night.instrument, exposure, len(night.chips))).writeto(file)
    chips = {chip: _write_chip(night, chip, list(zip(files, exposures, strict=True)), folder) for chip in night.chips}
    if night.sciences:
        truth.write_field(folder, night.field())
    if night.standards:
        truth.write_field(folder, night.standard_field(), truth.STANDARDS)
    truth.write_night(
        Truth(
            folder=folder,
            instrument=night.instrument.name,
            scale=night.scale,
            seed=night.seed,
            night=night.date.isoformat(),
            exposures=tuple(exposures),
            chips=chips,
        )
    )


def _write_chip(night: Night, chip: str, exposures: Sequence[tuple[Path, Exposure]], folder: Path) -> dict[str, Any]:
    """Add one CCD to the files of all exposures, write its truth, and return its record."""
    detector, optics = night.detector(chip), night.optics(chip)
    scenes = night.scenes(chip, [exposure for _, exposure in exposures])
    befell = []
    for stream, ((file, exposure), drift, scene) in enumerate(
        zip(exposures, drifts(len(exposures), night.generator(chip, 1)), scenes, strict=True), start=2
    ):
        image, circumstances = expose(detector, exposure, float(drift), night.generator(chip, stream), scene)
        _append(file, _header(night, chip, exposure, optics), image)
        befell.append(circumstances)
    return truth.write_chip(folder, detector, optics, befell)


def _header(night: Night, chip: str, exposure: Exposure, optics: Optics) -> fits.Header:
    """Return the header of one CCD's unit: of a camera with one CCD, the exposure's cards too."""
    header = cards.of_exposure(night.instrument, exposure, 0) if _is_single(night) else fits.Header()
    header.update(cards.of_chip(night.instrument, night.instrument.chip(chip), night.layout))
    if exposure.science or exposure.standard:
        header.update(cards.of_sky(exposure, optics, night.layout))
    return header


def _is_single(night: Night) -> bool:
    return len(night.instrument.chips) == 1


def _append(file: Path, header: fits.Header, image: NDArray[np.uint16]) -> None:
    """Add a unit to the end of a file, the primary one to a new file, without reading what is there."""
    unit = fits.ImageHDU(image, header) if file.exists() else fits.PrimaryHDU(image, header)
    stream = fits.StreamingHDU(str(file), unit.header)  # a Path is taken for a new file
    try:
        stream.write((image ^ np.uint16(_ZERO)).view(np.int16))
    finally:
        stream.close()
