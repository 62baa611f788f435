"""Small raw exposures with declared content, as the cameras of our TOML files would write them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Widths around the data area, as in WFI.toml.
PRESCAN_X, OVERSCAN_X, OVERSCAN_Y = 48, 46, 32

BIAS: Mapping[str, Any] = {
    "INSTRUME": "WFI",
    "DATE-OBS": "2000-04-28T22:01:03.250",
    "MJD-OBS": 51662.9174,
    "EXPTIME": 0.0,
    "OBJECT": "BIAS",
    "HIERARCH ESO DPR TYPE": "BIAS",
    "HIERARCH ESO INS FILT1 NAME": "#842",
    "HIERARCH ESO DET WIN1 BINX": 1,
    "HIERARCH ESO DET WIN1 BINY": 1,
}


def pixels(chip: int, size: tuple[int, int] = (30, 20)) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Return an image (y, x) whose data area is `size` (x, y); its values go up to the end of uint16."""
    shape = (size[1] + OVERSCAN_Y, size[0] + PRESCAN_X + OVERSCAN_X)
    return np.random.default_rng(chip).integers(0, 65536, shape, dtype=np.uint16)


def write_wfi(path: Path, *, chips: int = 2, size: tuple[int, int] = (30, 20), **changes: Any) -> Path:
    """Write a multi-extension exposure of WFI's first chips; a change to None takes a card away."""
    header = fits.Header()
    for key, value in {
        **BIAS,
        **{key.replace("__", " ").replace("_", "-"): item for key, item in changes.items()},
    }.items():
        if value is not None:
            header[key] = value
    units = [fits.PrimaryHDU(header=header)]
    for chip in range(chips):
        unit = fits.ImageHDU(pixels(chip, size), name=f"WIN1.CHIP{chip + 1}.OUT1")
        units.append(unit)
    fits.HDUList(units).writeto(path, overwrite=True)
    return path


def real_data(part: str) -> Path:
    """Return a folder of the shared real data; the test is skipped where it is absent."""
    root = Path(os.environ.get("DPU_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    folder = root / part
    if not folder.is_dir():
        pytest.skip(f"the real frames are not here: {part} of DPU_SHARED_DATA or ../shared/data")
    return folder
