import re
from pathlib import Path

import pytest

from dpu_recipes.frames import BadImage, Strips
from dpu_recipes.header import HeaderError, angle, fits, glob, moment, number
from dpu_recipes.instrument import InstrumentError
from dpu_recipes.instrument_toml import KEYS, RAW_CLASSES
from dpu_recipes.instruments import Instruments, load
from dpu_recipes.translation import translate

INSTRUMENTS = load()

CAMERA = """
name = "TESTCAM"
telescope = "a telescope"
longitude_deg = 20.8
[[recognise]]
INSTRUME = "testcam"
[detector]
chip_size = [100, 80]
pixel_arcsec = 1.0
gain = 1.0
read_noise = 3
saturation = 50000
[[chips]]
name = "one"
[[types]]
class = "RawBiasFrame"
when = { IMAGETYP = "zero" }
"""


def camera(folder: Path, *changes: tuple[str, str]) -> Path:
    text = CAMERA
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "testcam.toml").write_text(text)
    return folder


def test_the_cameras_that_ship_are_known() -> None:
    assert INSTRUMENTS.names() == ("DECAM", "GENERIC", "LCO", "NICKEL", "OMEGACAM", "WFC", "WFI")


def test_the_mosaics_have_all_their_chips_each_at_a_place_of_its_own() -> None:
    wfi, omegacam = INSTRUMENTS.get("WFI"), INSTRUMENTS.get("OMEGACAM")
    assert wfi.chip_names() == tuple(f"ccd{number}" for number in range(50, 58))
    assert omegacam.chip_names() == tuple(f"ESO_CCD_#{number}" for number in range(65, 97))
    assert sorted((chip.column, chip.row) for chip in wfi.chips) == [(x, y) for x in range(4) for y in range(2)]
    assert sorted((chip.column, chip.row) for chip in omegacam.chips) == [(x, y) for x in range(8) for y in range(4)]


def test_the_overscan_method_is_6_unless_the_camera_has_a_better_one() -> None:
    others = {name: item.overscan_method for name, item in INSTRUMENTS.items() if item.overscan_method != 6}
    assert others == {"NICKEL": 10, "WFC": 5, "LCO": 0, "GENERIC": 0}


def test_minima_are_those_of_the_science_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    wfi = INSTRUMENTS.get("WFI")
    assert [wfi.minimum(name) for name in ("ReadNoise", "BiasFrame", "DomeFlatFrame", "HotPixelMap")] == [2, 3, 3, 1]
    mine = load(camera(tmp_path, ("[detector]", "[minima]\nBiasFrame = 2\n[detector]"))).get("TESTCAM")
    assert [mine.minimum(name) for name in ("ReadNoise", "BiasFrame")] == [2, 2]


def test_a_filter_fringes_where_the_file_says_so() -> None:
    wfi, omegacam = load().get("WFI"), load().get("OMEGACAM")
    assert [name for name in ("#842", "#845", "BB#Z+/61_ESO846", "#879") if wfi.fringes(name)] == [
        "#845",
        "BB#Z+/61_ESO846",
        "#879",
    ]
    assert (omegacam.fringes("OCAM_r_SDSS"), omegacam.fringes("ocam_z_sdss")) == (False, True)


def test_limits_are_those_of_the_file(tmp_path: Path) -> None:
    mine = load(camera(tmp_path, ("[detector]", "[limits.ReadNoise]\nMAXIMUM_READNOISE = 9\n[detector]")))
    assert mine.get("TESTCAM").limits == {"ReadNoise": {"MAXIMUM_READNOISE": 9.0}}


def test_an_unknown_instrument_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        InstrumentError, match="^instrument 'WFO' is not one of DECAM, GENERIC, LCO, NICKEL, OMEGACAM, WFC, WFI$"
    ):
        INSTRUMENTS.get("WFO")


def test_an_unknown_chip_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InstrumentError, match="^chip 'ccd58' is not one of WFI's ccd50, ccd51, .*, ccd57$"):
        INSTRUMENTS.get("WFI").chip("ccd58")


def test_a_header_is_recognised_by_its_instrument() -> None:
    assert INSTRUMENTS.recognise({"INSTRUME": "WFI     "}).name == "WFI"
    assert INSTRUMENTS.recognise({"INSTRUME": "Nickel Direct Camera"}).name == "NICKEL"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            {"INSTRUME": "STE3 CCD"},
            "INSTRUME='STE3 CCD' is of no known instrument (DECAM, GENERIC, LCO, NICKEL, OMEGACAM, WFC, WFI)",
        ),
        ({}, f"its header has no INSTRUME and is of no known instrument ({', '.join(INSTRUMENTS)})"),
    ],
)
def test_a_header_of_no_known_instrument_is_refused(header: dict[str, str], message: str) -> None:
    with pytest.raises(InstrumentError) as caught:
        INSTRUMENTS.recognise(header)
    assert str(caught.value) == message


def test_a_header_that_fits_two_instruments_is_refused() -> None:
    wfi = INSTRUMENTS.get("WFI")
    twins = Instruments({"WFI": wfi, "WFI2": wfi})
    with pytest.raises(InstrumentError, match="fits more than one instrument: WFI, WFI"):
        twins.recognise({"INSTRUME": "WFI"})


def test_a_camera_comes_in_by_a_file_of_its_own(tmp_path: Path) -> None:
    found = load(camera(tmp_path))
    assert found.names() == ("DECAM", "GENERIC", "LCO", "NICKEL", "OMEGACAM", "TESTCAM", "WFC", "WFI")
    assert found.recognise({"INSTRUME": "TestCam"}).longitude_deg == 20.8


def test_a_file_of_the_users_own_wins_over_one_that_ships(tmp_path: Path) -> None:
    assert load(camera(tmp_path, ('"TESTCAM"', '"WFI"'))).get("WFI").telescope == "a telescope"


BAD_FILES = [
    ("longitude_deg = 20.8", "", "longitude_deg is missing"),
    ("20.8", '"east"', "longitude_deg = 'east': a number is needed"),
    ("20.8", "true", "longitude_deg = True: a number is needed"),
    ("20.8", "400", "longitude_deg = 400.0: degrees to the east are needed, -360 to 360"),
    ("[100, 80]", "[100]", "detector.chip_size = [100]: two whole numbers are needed, x and y"),
    ("gain = 1.0", "", "detector.gain is missing"),
    ("gain = 1.0", "gain = 1.0\ngian = 2", "detector.gian = 2: there is no such key"),
    ("gain = 1.0", "gain = 1.0\noverscan_method = 11", "detector.overscan_method = 11: it goes from 0 to 10"),
    (
        "gain = 1.0",
        "gain = 1.0\nstrips = { overscan_x = -1 }",
        "detector.strips.overscan_x = -1: a width is not negative",
    ),
    (
        "gain = 1.0",
        "gain = 1.0\nstrips = { overscan_x = 4, skip = 4 }",
        "detector.strips.skip = 4: that leaves nothing of overscan_x = 4",
    ),
    ("[detector]", "[minima]\nBiasFrame = 0\n[detector]", "minima.BiasFrame = 0: at least one frame is needed"),
    ("[detector]", '[keys]\nfliter = "F"\n[detector]', "keys.fliter = 'F': there is no such key"),
    ("[detector]", "[keys]\nfilter = 3\n[detector]", "keys.filter = 3: a text or a list of texts is needed"),
    (
        "gain = 1.0",
        "gain = 1.0\noverscan_method = 8",
        "detector.overscan_method = 8: it reads overscan_y: detector.strips has none, and no key tells of it",
    ),
    (
        "[detector]",
        '[units]\nexptime = "fortnights"\n[detector]',
        "units.exptime = 'fortnights': it is one of s, ms, us, min, h",
    ),
    ("[detector]", '[units]\nra = "h"\n[detector]', "units.ra = 'h': there is no such key"),
    (
        'name = "one"',
        'name = "one"\nrotation = 45',
        "chips[0].rotation = 45: it is one of 0, 90, 180, 270, degrees counter-clockwise",
    ),
    ('name = "one"', 'name = "one"\nrow = "top"', "chips[0].row = 'top': a number is needed"),
    (
        'name = "one"',
        'name = "one"\n[[chips]]\nname = "one"',
        "chips[1].name = 'one': there are two chips of that name",
    ),
    ("RawBiasFrame", "Bias", f"types[0].class = 'Bias': it is not one of {', '.join(RAW_CLASSES)}"),
    ('{ IMAGETYP = "zero" }', "{}", "types[0].when has no pattern"),
    ('name = "TESTCAM"', "name = ", "no TOML: Invalid value (at line 2, column 8)"),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD_FILES)
def test_a_bad_file_is_refused_by_file_key_and_value(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = camera(tmp_path, (old, new))
    with pytest.raises(InstrumentError) as caught:
        load(folder)
    assert str(caught.value) == f"testcam.toml: {message}"


def test_a_folder_of_instruments_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InstrumentError, match="nowhere is no folder of instrument files"):
        load(tmp_path / "nowhere")


def test_strips_leave_the_data_area_of_a_frame_of_any_scale() -> None:
    strips = INSTRUMENTS.get("WFI").strips
    for width, height in ((2048, 4096), (512, 1024)):
        regions = strips.regions((height + 32, width + 94))
        assert regions.data == (slice(0, height), slice(48, 48 + width))
        assert regions.prescan_x == (slice(0, height), slice(0, 48))
        assert regions.overscan_x == (slice(0, height), slice(48 + width, 94 + width))
        assert regions.prescan_y == (slice(0, 0), slice(48, 48 + width))
        assert regions.overscan_y == (slice(height, height + 32), slice(48, 48 + width))


def test_strips_shrink_with_the_binning() -> None:
    expected = Strips(prescan_x=24, overscan_x=23, prescan_y=0, overscan_y=16)
    assert INSTRUMENTS.get("WFI").strips.binned(2, 2) == expected


def test_columns_of_the_overscan_that_have_not_settled_are_skipped() -> None:
    strips = Strips(prescan_x=4, overscan_x=20, skip=3)
    regions = strips.regions((10, 124))
    assert (regions.data, regions.overscan_x) == (
        (slice(0, 10), slice(4, 104)),
        (slice(0, 10), slice(107, 124)),
    )
    assert strips.binned(2, 1) == Strips(prescan_x=2, overscan_x=10, skip=2)
    assert strips.to_values()["OVSCSKIP"] == 3
    assert "OVSCSKIP" not in Strips(overscan_x=20).to_values()


def test_strips_that_leave_no_data_are_refused() -> None:
    with pytest.raises(
        BadImage, match=r"94 x 4128 pixels leave no data beside strips of 48 \+ 46 columns and 0 \+ 32 rows"
    ):
        INSTRUMENTS.get("WFI").strips.regions((4128, 94))


@pytest.mark.parametrize(
    ("value", "pattern", "expected"),
    [
        ("sky flat", "SKY*FLAT*", True),
        ("bias", "dark | BIAS", True),
        ("flat", "dark|bias", False),
        (0, "0", True),
        (0.0, "0", True),
        ("0.0", "0", False),
        (0.004, "<= 0.01", True),
        (3, "> 3", False),
        (3, ">= 3", True),
        ("dome", "< 3", False),
        (None, "*", False),
        ("a[b]c", "a[b]?", True),
    ],
)
def test_patterns_of_the_rules(value: object, pattern: str, *, expected: bool) -> None:
    assert fits(value, pattern) is expected


def test_only_star_and_question_mark_are_wildcards() -> None:
    assert glob("CDF4_B_?", "CDF4_B_3")
    assert not glob("CDF4_B_?", "CDF4_B_12")
    assert not glob("CDF4.B*", "CDF4_B_3")


def test_positions_are_read_as_hours_and_as_degrees() -> None:
    header = {"RA": "13:25:39.47", "DEC": "-08:49:18.0", "BAD": "somewhere"}
    assert angle(header, ["RA"], hours=True) == pytest.approx(201.4144583)
    assert angle(header, ["DEC"]) == pytest.approx(-8.8216667)
    assert angle(header, ["BAD"]) is angle(header, ["NONE"]) is None


def test_a_date_and_a_time_apart_make_one_instant() -> None:
    header = {"DATE-OBS": "2013-07-13", "UT": "00:57:33"}
    assert moment(header, ["DATE-OBS"], ["UT"]).isoformat() == "2013-07-13T00:57:33+00:00"


@pytest.mark.parametrize("value", ["NaN", "2013-13-13T00:00:00", "13/07/13", float("nan"), 56486.0])
def test_a_value_that_is_no_date_is_refused_and_quoted(value: object) -> None:
    with pytest.raises(HeaderError, match="DATE-OBS=.* is not a date such as"):
        moment({"DATE-OBS": value}, ["DATE-OBS"])


def test_a_value_that_is_no_number_is_refused_and_quoted() -> None:
    for value in ("long", float("nan"), float("inf"), "nan"):
        with pytest.raises(HeaderError, match="EXPTIME=.* is not a finite number"):
            number({"EXPTIME": value}, ["EXPTIME"])


# The documentation


def documented() -> str:
    return (Path(__file__).parents[2] / "docs" / "reference" / "instruments.md").read_text()


def test_the_whole_file_of_the_documentation_is_a_camera(tmp_path: Path) -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```$", documented(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    (tmp_path / "mycam.toml").write_text(blocks[0])
    mycam = load(tmp_path).get("MYCAM")
    assert [(chip.name, chip.gain) for chip in mycam.chips] == [("left", 1.9), ("right", 2.1)]
    assert mycam.minimum("BiasFrame") == 2
    header = {"INSTRUME": "MYCAM2", "EXTNAME": "AMP2", "DATE-OBS": "2024-05-12T20:00:00", "IMAGETYP": "Zero"}
    frame = translate(mycam, {**header, "EXPTIME": 0, "GAINMODE": "high", "SPEED": 2}, (1024, 1064))
    assert (frame.frame_class, frame.chip, frame.readout) == (
        "RawBiasFrame",
        "right",
        "1x1 1024x1024 GAINMODE=high SPEED=2",
    )


def test_every_name_of_a_header_value_is_documented() -> None:
    rows = [line for line in documented().splitlines() if line.startswith("| `")]
    names = {name: row for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    for name, keywords in KEYS.items():
        assert name in names
        assert [word for word in keywords if word not in names[name]] == []


def test_the_class_of_a_type_rule_is_documented() -> None:
    assert ", ".join(RAW_CLASSES) in documented()


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    for telescope in ("one", "another"):
        folder = camera(tmp_path, ("a telescope", telescope))
        assert load(folder)["TESTCAM"].telescope == telescope
        assert load(folder)["TESTCAM"] is load(folder)["TESTCAM"]
