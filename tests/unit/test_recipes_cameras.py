"""The cameras that ship, by headers as their observatories write them and by real frames."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from dpu_recipes.__main__ import main
from dpu_recipes.exposure import BadExposure, split
from dpu_recipes.frames import Strips
from dpu_recipes.header import HeaderError
from dpu_recipes.instruments import load
from dpu_recipes.night import parse_night
from dpu_recipes.simulate.night import Night
from dpu_recipes.simulate.write import write_night
from dpu_recipes.translation import translate
from fakes_instruments import real_data, write_wfi

INSTRUMENTS = load()

DECAM = {
    "INSTRUME": "DECam",
    "DATE-OBS": "2013-04-22T08:03:12.123456",
    "MJD-OBS": 56404.33555699,
    "EXPTIME": 90.0,
    "OBSTYPE": "object",
    "OBJECT": "COSMOS",
    "FILTER": "r DECam SDSS c0002 6415.0 1480.0",
    "EXTNAME": "S1",
    "TRIMSEC": "[57:2104,51:4146]",
    "DATASEC": "[57:2104,51:4146]",
    "GAINA": 4.59347726229,
    "SATURATA": 43266.0,
    "CCDBIN1": 1,
    "CCDBIN2": 1,
}
WFC = {
    "INSTRUME": "WFC",
    "TELESCOP": "INT",
    "DATE-OBS": "2003-08-12",
    "UTSTART": "23:01:02.3",
    "EXPTIME": 120.0,
    "IMAGETYP": "object",
    "OBJECT": "M31",
    "WFFBAND": "r",
    "CHIPNAME": "A5530-3",
    "EXTNAME": "im3",
    "LONGITUD": 17.877639,
    "TRIMSEC": "[54:2101,1:4096]",
    "GAIN": 2.9,
}


@pytest.mark.parametrize(
    ("changes", "chip", "strips"),
    [
        ({}, "S1", Strips(prescan_x=56, overscan_x=56, prescan_y=50)),
        (
            {"EXTNAME": "N4", "TRIMSEC": "[57:2104,1:4096]"},
            "N4",
            Strips(prescan_x=56, overscan_x=56, overscan_y=50),
        ),
    ],
)
def test_decam_says_on_which_side_its_strips_are(changes: dict[str, Any], chip: str, strips: Strips) -> None:
    header = DECAM | changes
    frame = translate(INSTRUMENTS.recognise(header), header, (4146, 2160))
    assert (frame.instrument, frame.chip, frame.frame_class) == ("DECAM", chip, "RawScienceFrame")
    assert Strips.of(frame) == strips
    assert (frame.values["GAIN"], frame.values["SATURATE"]) == (4.59347726229, 43266.0)
    assert frame.night == parse_night("2013-04-21")


@pytest.mark.parametrize(
    ("kind", "exptime", "frame_class"),
    [
        ("zero", 0.0, "RawBiasFrame"),
        ("dome flat", 10.0, "RawDomeFlatFrame"),
        ("sky flat", 5.0, "RawTwilightFlatFrame"),
        ("standard", 15.0, "RawStandardFrame"),
        ("dark", 300.0, "RawDarkFrame"),
    ],
)
def test_decam_says_what_a_frame_is_by_obstype(kind: str, exptime: float, frame_class: str) -> None:
    header = DECAM | {"OBSTYPE": kind, "EXPTIME": exptime}
    assert translate(INSTRUMENTS.get("DECAM"), header, (4146, 2160)).frame_class == frame_class


def test_decam_has_62_chips_each_at_a_place_of_its_own() -> None:
    chips = INSTRUMENTS.get("DECAM").chips
    assert len({(chip.column, chip.row) for chip in chips}) == len(chips) == 62
    assert [sum(chip.column == column for chip in chips) for column in range(12)] == [
        3,
        4,
        5,
        6,
        6,
        7,
        7,
        6,
        6,
        5,
        4,
        3,
    ]


def test_decam_lies_as_its_focal_plane_was_measured() -> None:
    # Centres, mm, of the camera's own description; chips are 63.89 mm apart along their columns and 33.816 mm across.
    measured = {
        "S1": (-16.908, -191.670),
        "S4": (-16.908, 0.0),
        "S7": (-16.908, 191.670),
        "S8": (-50.724, -159.725),
        "S9": (-50.724, -95.835),
        "S10": (-50.724, -31.945),
    }
    decam = INSTRUMENTS.get("DECAM")
    for name, (x, y) in measured.items():
        place = decam.place(decam.chip(name))
        centre = (place.x + place.width / 2) / 2048 - 6, (place.y + place.height / 2) / 4096 - 3.5
        assert centre == pytest.approx((x / 33.816, y / 63.89)), name
    columns: dict[float, list[float]] = {}
    for chip in decam.chips:
        columns.setdefault(chip.column, []).append(chip.row + 0.5)
    assert {sum(rows) / len(rows) for rows in columns.values()} == {3.5}, "the columns have one middle"


def test_the_wfc_lies_as_its_rotator_centre_says() -> None:
    # Pixel (x, y) of each chip on which the centre of the rotator would fall (INT Wide Field Survey, M. Irwin).
    centres = {"CCD1": (-284, 3042), "CCD2": (3225, 1732), "CCD3": (3931, 2998), "CCD4": (1828, 3029)}
    wfc = INSTRUMENTS.get("WFC")
    found = []
    for name, (x, y) in centres.items():
        place = wfc.place(wfc.chip(name))
        # Of the one that lies across, columns go down from its upper edge.
        right, up = {0: (x, y), 270: (y, place.height - x)}[place.rotation]
        found.append((place.x + right, place.y + up))
    assert [wfc.chip(name).rotation for name in centres] == [0, 270, 0, 0]
    # Gaps, of which a place knows nothing, are up to 27 arcsec.
    assert np.ptp(found, axis=0) == pytest.approx(0, abs=2 * 27 / wfc.pixel_arcsec)


def test_guiders_and_focus_chips_of_decam_are_left_out() -> None:
    decam = INSTRUMENTS.get("DECAM")
    assert [decam.skips({"EXTNAME": name}) for name in ("FN1", "FS4", "GS1", "N1", "S31")] == [True] * 3 + [False] * 2


def test_the_wfc_counts_its_longitude_to_the_west_and_its_time_apart() -> None:
    frame = translate(INSTRUMENTS.recognise(WFC), WFC, (4200, 2154))
    assert (frame.instrument, frame.chip, frame.filter) == ("WFC", "CCD3", "r")
    assert (frame.night, frame.date_obs.isoformat()) == (parse_night("2003-08-12"), "2003-08-12T23:01:02.300000+00:00")
    assert Strips.of(frame) == Strips(prescan_x=53, overscan_x=53, overscan_y=104)
    assert frame.values["GAIN"] == 2.9


@pytest.mark.parametrize(
    ("changes", "frame_class"),
    [
        ({"OBSTYPE": "BIAS", "IMAGETYP": "zero", "EXPTIME": 0.0}, "RawBiasFrame"),
        ({"IMAGETYP": "bias", "EXPTIME": 0.0}, "RawBiasFrame"),
        ({"IMAGETYP": "sky"}, "RawTwilightFlatFrame"),
        ({"IMAGETYP": "flat", "OBJECT": "twilight flat"}, "RawTwilightFlatFrame"),
        ({"IMAGETYP": "flat", "OBJECT": "dome"}, "RawDomeFlatFrame"),
        ({"IMAGETYP": "run"}, "RawScienceFrame"),
    ],
)
def test_the_wfc_says_what_a_frame_is_in_old_words_and_new(changes: dict[str, Any], frame_class: str) -> None:
    assert translate(INSTRUMENTS.get("WFC"), WFC | changes, (4200, 2154)).frame_class == frame_class


def test_the_two_sites_of_lco_are_two_chips_each_with_its_own_longitude(tmp_path: Path) -> None:
    found = {}
    for file in sorted(real_data("lco_pds110").glob("*/*"))[::3]:
        ((frame, path),) = split(file, file.name, INSTRUMENTS, tmp_path)
        path.unlink()
        found.setdefault((frame.chip, frame.night.isoformat()), []).append(frame.filter)
    assert found == {
        (chip, night): ["up", "gp", "rp", "zs"] for chip, night in (("kb82", "2017-08-15"), ("kb97", "2017-08-17"))
    }


def test_columns_of_the_nickels_overscan_that_have_not_settled_are_left_out() -> None:
    biases = sorted(real_data("nickel_20240513").iterdir())[:10]
    strips = np.array([fits.getdata(file)[:, 1024:] for file in biases], np.float64)
    profile = (strips - np.median(strips, axis=2, keepdims=True)).mean(axis=(0, 1))
    skipped = INSTRUMENTS.get("NICKEL").strips.binned(2, 2).skip
    error = strips.std() / np.sqrt(strips[..., 0].size)
    print(f"skipped {profile[:skipped].round(2)}, then {profile[skipped:].round(2)}, each +- {error:.2f} ADU")
    assert np.all(np.abs(profile[:skipped]) > 0.8)
    assert np.all(np.abs(profile[skipped:]) < 0.8)


def test_a_camera_without_a_file_is_taken_for_the_generic_one_where_asked(tmp_path: Path) -> None:
    file = real_data("saao_ste3") / "a8280271.fits.fz"
    ((frame, path),) = split(file, file.name, INSTRUMENTS, tmp_path, instrument="GENERIC")
    assert (frame.file_name, frame.frame_class) == ("GENERIC.2013-07-13T00:57:33.000_1.fits", "RawScienceFrame")
    assert Strips.of(frame) == Strips(prescan_x=16, overscan_x=8)
    assert frame.values["GAIN"] == 1.9
    path.unlink()
    with pytest.raises(BadExposure, match=r"a8280271.fits.fz: instrument 'GENERAL' is not one of .*GENERIC"):
        split(file, file.name, INSTRUMENTS, tmp_path, instrument="GENERAL")


@pytest.mark.parametrize("section", ["[57:2161,51:4146]", "[0:10,1:10]", "[20:10,1:10]"])
def test_a_section_that_is_no_part_of_the_frame_is_refused(section: str) -> None:
    with pytest.raises(HeaderError, match="contradicts itself: TRIMSEC=.* is no part of 2160 x 4146 pixels"):
        translate(INSTRUMENTS.get("DECAM"), DECAM | {"TRIMSEC": section}, (4146, 2160))


@pytest.mark.parametrize("name", ["DECAM", "WFC", "OMEGACAM", "WFI", "NICKEL"])
def test_what_is_simulated_of_a_camera_is_understood_as_its_own(tmp_path: Path, name: str) -> None:
    camera = INSTRUMENTS.get(name)
    chips = camera.chip_names()[-2:]
    write_night(Night(instrument=camera, chips=chips, scale=1 / 32, biases=1, domes=1), tmp_path / "night")
    found = []
    for file in sorted((tmp_path / "night" / "raw").iterdir()):
        frames = [frame for frame, _ in split(file, file.name, INSTRUMENTS, tmp_path)]
        found.append((frames[0].frame_class, tuple(frame.chip for frame in frames)))
    assert sorted(found) == [("RawBiasFrame", chips), ("RawDomeFlatFrame", chips)]


def test_it_is_explained_how_a_file_is_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_wfi(tmp_path / "r.fits", chips=1)
    assert main(["check", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "r.fits: WFI (WFI.toml), by INSTRUME='WFI'",
        "  WFI.2000-04-28T22:01:03.250_1.fits",
        "    chip       ccd50 (EXTNAME='WIN1.CHIP1.OUT1')",
        "    class      RawBiasFrame (rule 1 of WFI.toml: ESO DPR TYPE='BIAS' fits 'BIAS*')",
        "    date_obs   2000-04-28T22:01:03.250000+00:00 (DATE-OBS='2000-04-28T22:01:03.250')",
        "    night      2000-04-28 (WFI.toml)",
        "    exptime    0.0 (EXPTIME=0.0)",
        "    filter     #842 (ESO INS FILT1 NAME='#842')",
        "    object     BIAS (OBJECT='BIAS')",
        "    readout    1x1 30x20 (ESO DET WIN1 BINX=1, ESO DET WIN1 BINY=1)",
        "    strips     x 48 + 46, y 0 + 32, 0 skipped (WFI.toml)",
        "    gain       2 (WFI.toml)",
        "    read_noise 2.5 (WFI.toml)",
        "    saturation 60000 (WFI.toml)",
    ]


def test_it_is_explained_why_a_file_is_not_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strange, cut = write_wfi(tmp_path / "strange.fits", INSTRUME="SUPERCAM"), tmp_path / "cut.fits"
    cut.write_bytes(b"")
    assert main(["check", str(strange), str(cut), str(tmp_path / "none.fits")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("strange.fits: INSTRUME='SUPERCAM' is of no known instrument")
    assert "  WFI (WFI.toml) asks for INSTRUME like 'WFI*'" in lines
    assert lines[-2:] == ["cut.fits: is empty", f"{tmp_path}/none.fits: No such file or directory"]


def test_a_bad_file_of_a_camera_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.toml").write_text("name = 3")
    assert main(["check", "--instruments", str(tmp_path), str(tmp_path / "r.fits")]) == 2
    assert capsys.readouterr().err.startswith("bad.toml: ")
