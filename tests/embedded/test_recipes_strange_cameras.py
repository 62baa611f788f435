"""Cameras unlike those that ship, each described by a TOML file alone, reduce a night of 2 biases and 2 flats."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from fakes_cameras import RATE, Camera, noise, reduce_night, signal

#: One chip, no overscan, types by a number, a keyword with blanks, the gain under a name of its own, 19YY.
PLAIN = """
name = "PLAIN"
telescope = "0.5-m of nobody"
longitude_deg = -70.4
recognise = [{ DETECTOR = "Plain CCD*" }]
chips = [{ name = "the chip" }]

[[types]]
class = "RawBiasFrame"
when = { PICTTYPE = 1 }

[[types]]
class = "RawDomeFlatFrame"
when = { PICTTYPE = "4 | 5", SHUTTER = true }

[detector]
chip_size = [300, 200]
pixel_arcsec = 0.6
gain = 1.0
read_noise = 5.0
saturation = 60000
overscan_method = 0

[keys]
time_obs = "UTSTART"
filter = "filter name"
object = "TITLE"
gain = "EGAIN"
"""

#: Four amplifiers, each an extension that a card of its own names, out of order; the overscan lies above the data.
QUAD = """
name = "QUAD"
telescope = "2-m"
longitude_deg = 149.06
modes = ["HIERARCH QD DET SPEED"]
recognise = [{ "HIERARCH QD INS ID" = "QUAD/1.?" }]
chips = [
    { name = "UL", aliases = ["Q1", "upper left"], row = 1 },
    { name = "UR", aliases = ["Q2"], column = 1, row = 1 },
    { name = "LL", aliases = ["Q3"] },
    { name = "LR", aliases = ["Q4"], column = 1, gain = 2.0 },
]
types = [
    { class = "RawBiasFrame", when = { "QD DPR TYPE" = "BIAS*" } },
    { class = "RawDomeFlatFrame", when = { "QD DPR TYPE" = "*FLAT*LAMP*" } },
]

[detector]
chip_size = [160, 220]
pixel_arcsec = 0.27
gain = 2.4
read_noise = 3.0
saturation = 65000
overscan_method = 8
strips = { prescan_y = 4, overscan_y = 30 }

[keys]
chip = "QD DET QUADRANT"
filter = "QD INS FILT"
exptime = "QD DET DIT"
"""

#: Binned, gzipped, in floating point, its strips named by a section; filters are what a wheel's place is called.
BINNED = """
name = "BINNED"
telescope = "1-m"
longitude_deg = 10.2
recognise = [{ INSTRUME = "bin cam" }]
chips = [{ name = "A", aliases = ["amp A"] }, { name = "B", aliases = ["amp B"], column = 1 }]
types = [
    { class = "RawBiasFrame", when = { image_type = "bias", exptime = 0 } },
    { class = "RawDomeFlatFrame", when = { image_type = "*flat*", exptime = "> 0" } },
]

[detector]
chip_size = [512, 512]
pixel_arcsec = 0.2
gain = 3.0
read_noise = 4.0
saturation = 64000
overscan_method = 10
strips = { prescan_x = 8, overscan_x = 64 }

[keys]
date_obs = "DATE_BEG"
image_type = "CCDTYPE"
binning = "CCDSUM"
trim_section = "TRIMSEC"
filter = "WHEEL POS"
"""


def write_plain(path: Path, number: int, light: float) -> None:
    level = noise(number, (200, 300), 5.0) + signal(number, (200, 300), 1.5, light)
    header = fits.Header()
    header.update({"DETECTOR": "Plain CCD no 3", "DATE-OBS": "12/05/98", "UTSTART": f"23:0{number}:10.5"})
    header.update({"EXPOSURE": light / RATE, "EGAIN": 1.5, "PICTTYPE": 4 if light else 1, "SHUTTER": light > 0})
    header["HIERARCH FILTER NAME"] = "Bessell V (new)"
    fits.PrimaryHDU(np.rint(level).astype(np.uint16), header).writeto(path)


def write_quad(path: Path, number: int, light: float) -> None:
    primary = fits.PrimaryHDU()
    said = {"INS ID": "QUAD/1.2", "DET SPEED": "slow", "DET DIT": light / RATE, "INS FILT": "r SDSS"}
    said["DPR TYPE"] = "SCREEN,FLAT,LAMP" if light else "BIAS"
    for key, value in said.items():
        primary.header[f"HIERARCH QD {key}"] = value
    primary.header["DATE-OBS"] = f"2024-05-12T09:0{number}:10.5"
    units = [primary]
    for quadrant in (3, 1, 4, 2):
        level = noise(10 * number + quadrant, (254, 160), 3.0) + np.linspace(0, 5, 160)
        level[4:224] += signal(10 * number + quadrant, (220, 160), 2.2, light)
        unit = fits.ImageHDU(np.rint(level).astype(np.int32))
        unit.header["HIERARCH QD DET QUADRANT"] = f"Q{quadrant}"
        units.append(unit)
    fits.HDUList(units).writeto(path)


def write_binned(path: Path, number: int, light: float) -> None:
    primary = fits.PrimaryHDU()
    primary.header.update({"INSTRUME": "BIN CAM", "DATE_BEG": f"2024-05-12T19:0{number}:10Z", "EXPTIME": light / RATE})
    primary.header.update({"CCDTYPE": "lamp flat" if light else "bias", "CCDSUM": "2 2"})
    primary.header["HIERARCH WHEEL POS"] = "3 - red & long"
    units = [primary]
    for place, name in enumerate("AB"):
        level = noise(10 * number + place, (256, 292), 4.0)
        level[:, 4:260] += signal(10 * number + place, (256, 256), 3.0, light)
        unit = fits.ImageHDU(level.astype(np.float32), name=f"amp {name}")
        unit.header["TRIMSEC"] = "[5:260,1:256]"
        units.append(unit)
    plain = path.with_suffix(".plain")
    fits.HDUList(units).writeto(plain)
    path.write_bytes(gzip.compress(plain.read_bytes()))


CAMERAS = [
    Camera("PLAIN", PLAIN, "1998-05-12", "Bessell V (new)", 0, 5.0, {"the chip": 1.5}, write_plain),
    Camera("QUAD", QUAD, "2024-05-12", "r SDSS", 8, 3.0, dict.fromkeys(("LL", "LR", "UL", "UR"), 2.2), write_quad),
    Camera("BINNED", BINNED, "2024-05-12", "3 - red & long", 10, 4.0, {"A": 3.0, "B": 3.0}, write_binned, ".fits.gz"),
]


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.name)
def test_a_strange_camera_that_only_a_toml_describes_reduces_two_biases_and_two_flats(
    tmp_path: Path, camera: Camera
) -> None:
    reduce_night(camera, tmp_path)
