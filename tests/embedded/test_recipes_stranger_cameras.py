"""More cameras unlike those that ship, each described by a TOML file alone: what is odd about each is said above it."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dpu_recipes.__main__ import main
from dpu_recipes.instruments import load
from dpu_recipes.registry import strays
from fakes_cameras import LIGHT, RATE, Camera, noise, reduce_night, signal

#: A third axis of one plane, 32 bits without a sign, its time a Julian Date, exposures in milliseconds, strips on all
#: sides, the header's gain the wrong way round and its read noise in electrons.
CUBE = """
name = "CUBE"
telescope = "0.8-m"
longitude_deg = -111.6
recognise = [{ CAMERA = "cube" }]
chips = [{ name = "ccd" }]
types = [
    { class = "RawBiasFrame", when = { FRAME = "Bias", exptime = "< 0.0005" } },
    { class = "RawDomeFlatFrame", when = { FRAME = "Flat Field" } },
]

[detector]
chip_size = [220, 200]
pixel_arcsec = 0.4
gain = 1.0
read_noise = 9.0
saturation = 200000
strips = { prescan_x = 10, overscan_x = 20, prescan_y = 6, overscan_y = 8 }

[keys]
mjd = "MJD"
exptime = "EXPOS"
gain = "GAIN"
read_noise = "RON"

[units]
exptime = "ms"
gain = "ADU/e-"
read_noise = "electrons"
"""

#: A chip's four amplifiers, each an extension named by its number, packed, its overscan on one side or the other;
#: binned; the date with slashes and its time apart; units beside the numbers.
AMPS = """
name = "AMPS"
telescope = "4-m"
longitude_deg = 20.8
recognise = [{ INSTRUME = "AMPS" }]
modes = ["READMODE"]
types = [
    { class = "RawBiasFrame", when = { image_type = "zero" } },
    { class = "RawDomeFlatFrame", when = { image_type = "dflat" } },
]
chips = [
    { name = "c1a1", aliases = ["1"] },
    { name = "c1a2", aliases = ["2"], column = 1 },
    { name = "c1a3", aliases = ["3"], row = 1 },
    { name = "c1a4", aliases = ["4"], column = 1, row = 1, rotation = 180 },
]

[detector]
chip_size = [400, 400]
pixel_arcsec = 0.15
gain = 9.9
read_noise = 9.9
saturation = 65535
strips = { overscan_x = 64 }

[keys]
binning = "CCDSUM"
trim_section = "DATASEC"
gain = "GAIN"
read_noise = "RDNOISE"
"""

#: Extensions without a name, counted; turned; no strips and not a word on overscan; a blank amid the date.
NAMELESS = """
name = "NAMELESS"
telescope = "1.2-m"
longitude_deg = 0.0
recognise = [{ ORIGIN = "nameless*" }]
types = [
    { class = "RawBiasFrame", when = { SHUTTER = false } },
    { class = "RawDomeFlatFrame", when = { LAMP = "ON" } },
]
chips = [
    { name = "one", aliases = ["1"], rotation = 90 },
    { name = "two", aliases = ["2"], column = 2, row = 0.5, rotation = 270 },
]

[detector]
chip_size = [180, 260]
pixel_arcsec = 1.1
gain = 1.7
read_noise = 6.0
saturation = 60000

[keys]
chip = "EXTENSION"
"""

#: 16 bits with a sign, a level below zero, rows of overscan alone, light counted from above; the night before noon UTC.
SIGNED = """
name = "SIGNED"
telescope = "0.4-m"
longitude_deg = 174.8
recognise = [{ INSTRUME = "sg*", TELESCOP = "home" }, { INSTRUME = "signed" }]
chips = [{ name = "only" }]
types = [
    { class = "RawBiasFrame", when = { exptime = 0 } },
    { class = "RawDomeFlatFrame", when = { object = "*panel* | *dome*" } },
]

[detector]
chip_size = [240, 180]
pixel_arcsec = 2.0
gain = 2.0
read_noise = 4.0
saturation = 32000
strips = { overscan_y = 24 }

[limits.DomeFlatFrame]
MIN_FLAT_MEAN = 10000

[limits.BiasFrame]
MAXIMUM_ABS_MEAN = 20
"""

#: Two chips of a file with other images, in double precision, packed with a rest; minutes; no type but by what shines.
DOUBLE = """
name = "DOUBLE"
telescope = "3.5-m"
longitude_deg = -2.5
recognise = [{ "HIERARCH DB INS NAME" = "double" }]
skip = [{ EXTNAME = "GUIDER" }, { EXTNAME = "*_MASK" }]
chips = [{ name = "blue", aliases = ["B?"] }, { name = "red", aliases = ["R?"], column = 1, gain = 2.5 }]
types = [
    { class = "RawDomeFlatFrame", when = { "DB LAMP STATE" = true } },
    { class = "RawBiasFrame", when = { "DB LAMP STATE" = false, exptime = 0 } },
]

[detector]
chip_size = [200, 240]
pixel_arcsec = 0.2
gain = 1.2
read_noise = 5.0
saturation = 60000
strips = { prescan_x = 32 }

[keys]
date_obs = "DB DATE"
time_obs = "DB TIME"
exptime = "DB EXPTIME"
filter = "DB FILTER"

[units]
exptime = "min"
"""


def write_cube(path: Path, number: int, light: float) -> None:
    level = noise(number, (214, 250), 5.0) + np.linspace(0, 30, 214)[:, None]
    level[6:206, 10:230] += signal(number, (200, 220), 0.5, light)
    unit = fits.PrimaryHDU(np.rint(level).astype(np.uint32)[np.newaxis])
    said = {"CAMERA": "CUBE", "MJD": 60442.3 + number / 1000, "EXPOS": 1000 * light / RATE, "FILTER": "i"}
    unit.header.update(said | {"FRAME": "flat field" if light else "bias", "GAIN": 2.0, "RON": 2.5})
    unit.writeto(path)


def write_amps(path: Path, number: int, light: float) -> None:
    primary = fits.PrimaryHDU()
    said = {
        "INSTRUME": "AMPS",
        "DATE-OBS": "2024/05/12",
        "TIME-OBS": f"20:0{number}:10.25",
        "FILTER": "B",
        "READMODE": 2,
    }
    said |= {"EXPTIME": f"{light / RATE} s", "IMAGETYP": "dflat" if light else "zero", "CCDSUM": "2 2"}
    primary.header.update(said)
    units = [primary]
    for amplifier in range(1, 5):
        left = 32 if amplifier % 2 else 0
        level = noise(10 * number + amplifier, (200, 232), 3.5)
        level[:, left : left + 200] += signal(10 * number + amplifier, (200, 200), 1.6, light)
        unit = fits.CompImageHDU(np.rint(level).astype(np.uint16), compression_type="RICE_1")
        unit.header.update({"EXTNAME": str(amplifier), "DATASEC": f"[{left + 1}:{left + 200},1:200]"})
        unit.header.update({"GAIN": "1.6 e-/ADU", "RDNOISE": "5.6 (electrons)"})
        units.append(unit)
    fits.HDUList(units).writeto(path)


def write_nameless(path: Path, number: int, light: float) -> None:
    primary = fits.PrimaryHDU()
    said = {"ORIGIN": "Nameless observatory", "DATE-OBS": f"2024-05-12 19:0{number}:10", "FILTER": "none"}
    said |= {"EXPTIME": f"{1e6 * light / RATE:g} us", "SHUTTER": light > 0, "LAMP": "on" if light else "off"}
    primary.header.update(said)
    units = [primary]
    for place in (1, 2):
        level = noise(10 * number + place, (260, 180), 6.0) + signal(10 * number + place, (260, 180), 1.7, light)
        units.append(fits.ImageHDU(np.rint(level).astype(np.int32)))
    fits.HDUList(units).writeto(path)


def write_signed(path: Path, number: int, light: float) -> None:
    level = noise(number, (204, 240), 4.0) - 900 + np.linspace(0, 20, 240)
    level[:180] += signal(number, (180, 240), 2.0, light * 0.6)
    unit = fits.PrimaryHDU(np.rint(level).astype(np.int16))
    said = {"INSTRUME": "sg2", "TELESCOP": "home", "DATE-OBS": f"2024-05-12T08:0{number}:10.5+00:00", "FILTER": "clear"}
    unit.header.update(said | {"EXPTIME": light / RATE, "OBJECT": "flat panel" if light else "nothing"})
    unit.writeto(path)


def write_double(path: Path, number: int, light: float) -> None:
    primary = fits.PrimaryHDU()
    said = {"INS NAME": "Double", "DATE": "2024-05-12", "TIME": f"23:5{number}:00", "EXPTIME": light / RATE / 60}
    for key, value in (said | {"FILTER": "wide", "LAMP STATE": light > 0}).items():
        primary.header[f"HIERARCH DB {key}"] = value
    units = [primary, fits.ImageHDU(np.zeros((8, 8), np.int16), name="GUIDER")]
    for place, name, gain in ((1, "R1", 2.5), (2, "B2", 1.2)):
        level = noise(10 * number + place, (240, 232), 5.0)
        level[:, 32:] += signal(10 * number + place, (240, 200), gain, light)
        units.append(fits.ImageHDU(level, name=name))
        units.append(fits.ImageHDU(np.zeros((240, 232), np.uint8), name=f"{name}_MASK"))
    fits.HDUList(units).writeto(path)


FOUR = dict.fromkeys(("c1a1", "c1a2", "c1a3", "c1a4"), 1.6)
CAMERAS = [
    Camera("CUBE", CUBE, "2024-05-11", "i", 6, 5.0, {"ccd": 0.5}, write_cube),
    Camera("AMPS", AMPS, "2024-05-12", "B", 6, 3.5, FOUR, write_amps, ".fits.fz"),
    Camera("NAMELESS", NAMELESS, "2024-05-12", "none", 0, 6.0, {"one": 1.7, "two": 1.7}, write_nameless),
    Camera("SIGNED", SIGNED, "2024-05-12", "clear", 8, 4.0, {"only": 2.0}, write_signed),
    Camera("DOUBLE", DOUBLE, "2024-05-12", "wide", 5, 5.0, {"blue": 1.2, "red": 2.5}, write_double),
]


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.name)
def test_a_stranger_camera_that_only_a_toml_describes_reduces_two_biases_and_two_flats(
    tmp_path: Path, camera: Camera
) -> None:
    reduce_night(camera, tmp_path)


def test_a_limit_of_nothing_is_told_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = "[limits.BiasFrame]\nMAXIMUM_STDDEV = 20\n\n[minima]\nBias = 2\n"
    (tmp_path / "strange.toml").write_text(CUBE + wrong)
    write_cube(tmp_path / "frame.fits", 1, 0.0)
    assert main(["check", str(tmp_path / "frame.fits"), "--instruments", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines()[:2] == [
        (
            "strange.toml: limits: no recipe has 'BiasFrame.process_params.MAXIMUM_STDDEV'; "
            "the nearest is 'BiasFrame.process_params.MAXIMUM_STDEV'"
        ),
        "strange.toml: minima: no recipe has 'Bias'; the nearest is 'BiasFrame'",
    ]
    assert [line for instrument in load().values() for line in strays(instrument)] == []


EXPLAINED = {
    "CUBE": ["date_obs   2024-05-12T07:16:19.200000+00:00 (MJD=60442.303)", "exptime    5.0 (EXPOS=5000.0)"],
    "AMPS": [
        "chip       c1a3 (EXTNAME='3')",
        "date_obs   2024-05-12T20:03:10.250000+00:00 (DATE-OBS='2024/05/12')",
        "strips     x 32 + 0, y 0 + 0, 0 skipped (DATASEC='[33:232,1:200]')",
        "gain       1.6 (GAIN='1.6 e-/ADU')",
        "read_noise 3.5 (RDNOISE='5.6 (electrons)')",
    ],
    "NAMELESS": ["chip       two (EXTENSION=2)", "exptime    5.0 (EXPTIME='5e+06 us')"],
    "SIGNED": ["class      RawDomeFlatFrame (rule 2 of strange.toml: OBJECT='flat panel' fits '*panel* | *dome*')"],
    "DOUBLE": ["class      RawDomeFlatFrame (rule 1 of strange.toml: DB LAMP STATE=True fits 'True')"],
}


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.name)
def test_a_strange_header_is_explained(tmp_path: Path, camera: Camera, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "strange.toml").write_text(camera.toml)
    file = tmp_path / f"frame{camera.suffix}"
    camera.write(file, 3, LIGHT)
    assert main(["check", str(file), "--instruments", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for line in EXPLAINED[camera.name]:
        assert f"    {line}\n" in said
