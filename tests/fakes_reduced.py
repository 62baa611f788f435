"""What another pipeline would have made of WFI's exposures."""

from pathlib import Path

import numpy as np
from astropy.io import fits

SHAPE = (20, 30)


def write_reduced(path: Path, *, chips: int = 1, shape: tuple[int, int] = SHAPE) -> Path:
    """Write an image that another pipeline has made of WFI's first chips."""
    header = fits.Header({"INSTRUME": "WFI", "DATE-OBS": "2000-04-28T23:00:00", "EXPTIME": 60.0, "OBJECT": "CDF4"})
    header["HIERARCH ESO INS FILT1 NAME"] = "#842"
    header["HIERARCH ESO DPR TYPE"] = "OBJECT"
    pixels = np.random.default_rng(1).normal(100, 5, (chips, *shape)).astype(np.float32)
    units = [fits.ImageHDU(pixels[chip], name=f"WIN1.CHIP{chip + 1}.OUT1") for chip in range(chips)]
    fits.HDUList([fits.PrimaryHDU(header=header), *units]).writeto(path)
    return path


def write_plane(path: Path, *, shape: tuple[int, int] = SHAPE, planes: int = 1) -> Path:
    """Write a weight or a mask: it has no header to speak of."""
    units = [fits.ImageHDU(np.full(shape, number, np.float32)) for number in range(planes)]
    fits.HDUList([fits.PrimaryHDU(), *units]).writeto(path)
    return path


def write_psf(path: Path) -> Path:
    """Write a model of the point spread as PSFEx does: a table."""
    table = fits.BinTableHDU.from_columns([fits.Column("PSF_MASK", "4E", array=np.ones((1, 4), np.float32))])
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    return path
