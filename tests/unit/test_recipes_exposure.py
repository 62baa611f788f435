import gzip
import hashlib
import os
import re
import tracemalloc
import warnings
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from dpu_recipes.exposure import BadExposure, split
from dpu_recipes.frames import BadImage, Frame, read_image, regions, write_image
from dpu_recipes.instruments import load
from fakes_instruments import pixels, real_data, write_wfi

INSTRUMENTS = load()


def parts(file: Path, folder: Path) -> list[tuple[Frame, Path]]:
    folder.mkdir(exist_ok=True)
    return split(file, file.name, INSTRUMENTS, folder)


def refusal(file: Path, tmp_path: Path) -> str:
    folder = tmp_path / "refused"
    with pytest.raises(BadExposure) as caught:
        parts(file, folder)
    assert list(folder.iterdir()) == []
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{file.name}: ")
    return message.removeprefix(f"{file.name}: ")


def nickel(number: int = 1001) -> Path:
    return real_data("nickel_20240513") / f"d{number}.fits.fz"


# What comes out


def test_each_ccd_is_a_file_of_its_own_with_the_pixels_that_went_in(tmp_path: Path) -> None:
    made = parts(write_wfi(tmp_path / "raw.fits", chips=3), tmp_path / "out")
    assert [frame.chip for frame, _ in made] == ["ccd50", "ccd51", "ccd52"]
    for number, (frame, path) in enumerate(made):
        data, _ = read_image(path)
        assert data.dtype == np.uint16
        np.testing.assert_array_equal(data, pixels(number))
        content = path.read_bytes()
        assert (frame.id, frame.digest, frame.size) == (hashlib.sha256(content).hexdigest(), frame.id, len(content))
        assert len(content) % 2880 == 0


def test_a_record_says_what_the_header_means(tmp_path: Path) -> None:
    (frame, path), *_ = parts(write_wfi(tmp_path / "raw.fits"), tmp_path / "out")
    assert frame == Frame(
        id=frame.id,
        digest=frame.id,
        size=path.stat().st_size,
        frame_class="RawBiasFrame",
        instrument="WFI",
        chip="ccd50",
        filter="#842",
        object="BIAS",
        night=date(2000, 4, 28),
        date_obs=datetime(2000, 4, 28, 22, 1, 3, 250000, tzinfo=UTC),
        exptime=0.0,
        readout="1x1 30x20",
        file_name="WFI.2000-04-28T22:01:03.250_1.fits",
        values={
            "BINX": 1,
            "BINY": 1,
            "PRESCANX": 48,
            "OVSCANX": 46,
            "PRESCANY": 0,
            "OVSCANY": 32,
            "GAIN": 2.0,
            "RDNOISE": 2.5,
            "SATURATE": 60000.0,
            "LONGITUD": -70.7346,
            "EXTENSION": 1,
            "EXPOSURE": "raw.fits",
        },
    )
    assert path.name == frame.file_name


def test_the_header_of_a_part_is_the_exposures_and_then_the_extensions(tmp_path: Path) -> None:
    (_, path), *_ = parts(write_wfi(tmp_path / "raw.fits", COMMENT="the night was clear"), tmp_path / "out")
    with fits.open(path) as units:
        units.verify("exception")
        assert len(units) == 1
        header = units[0].header
    assert list(header)[:7] == ["SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "BZERO", "INSTRUME"]
    assert header["ESO DPR TYPE"] == "BIAS"
    assert header["EXTNAME"] == "WIN1.CHIP1.OUT1"
    assert list(header["COMMENT"]) == ["the night was clear"]


def test_the_same_exposure_always_gives_the_same_bytes(tmp_path: Path) -> None:
    file = write_wfi(tmp_path / "raw.fits")
    first = [path.read_bytes() for _, path in parts(file, tmp_path / "a")]
    renamed = file.rename(tmp_path / "other.fits")
    assert [path.read_bytes() for _, path in parts(renamed, tmp_path / "b")] == first


def test_the_bytes_are_fixed_for_ever(tmp_path: Path) -> None:
    file = tmp_path / "raw.fits"
    cards = {"INSTRUME": "WFI", "DATE-OBS": "2000-04-28T22:01:03.25", "EXPTIME": 0, "ESO DPR TYPE": "BIAS"}
    images = [
        "".join(f"{'HIERARCH ' if ' ' in key else ''}{key:8}= {value!r:>20}".ljust(80) for key, value in cards.items())
    ]
    layout = {"SIMPLE": "T", "BITPIX": 16, "NAXIS": 2, "NAXIS1": 100, "NAXIS2": 40, "BZERO": 32768}
    head = "".join(f"{key:8}= {value:>20}".ljust(80) for key, value in layout.items()) + images[0]
    head += "EXTNAME = 'CHIP8   '".ljust(80) + "END".ljust(80)
    data = np.arange(4000, dtype=">i2").tobytes()
    whole = head.encode().ljust(2880) + data.ljust(8640, b"\0")
    file.write_bytes(whole)
    ((frame, path),) = parts(file, tmp_path / "out")
    assert frame.chip == "ccd57"
    assert path.read_bytes() == whole


@pytest.mark.parametrize("packed", ["raw.fits.fz", "raw.fits.gz"])
def test_a_compressed_exposure_gives_the_bytes_of_the_plain_one(tmp_path: Path, packed: str) -> None:
    plain = write_wfi(tmp_path / "raw.fits")
    other = tmp_path / packed
    if packed.endswith(".gz"):
        other.write_bytes(gzip.compress(plain.read_bytes()))
    else:
        _rice(plain, other)
    expected = [(frame.id, path.read_bytes()) for frame, path in parts(plain, tmp_path / "a")]
    assert [(frame.id, path.read_bytes()) for frame, path in parts(other, tmp_path / "b")] == expected


def _rice(plain: Path, packed: Path) -> None:
    with fits.open(plain) as units:
        images = [fits.CompImageHDU(unit.data, unit.header, compression_type="RICE_1") for unit in units[1:]]
        fits.HDUList([fits.PrimaryHDU(header=units[0].header), *images]).writeto(packed)


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "uint8"])
def test_pixels_keep_their_type(tmp_path: Path, dtype: str) -> None:
    file = write_wfi(tmp_path / "raw.fits")
    expected = (pixels(0) % 200).astype(dtype)
    with fits.open(file) as units:
        header, extension = units[0].header, units[1].header
    for key in ("BZERO", "BSCALE"):
        extension.remove(key, ignore_missing=True)
    fits.HDUList([fits.PrimaryHDU(header=header), fits.ImageHDU(expected, extension)]).writeto(file, overwrite=True)
    data, _ = read_image(parts(file, tmp_path / "out")[0][1])
    assert data.dtype == expected.dtype
    np.testing.assert_array_equal(data, expected)


def test_strips_come_from_the_header_where_it_has_them(tmp_path: Path) -> None:
    file = write_wfi(tmp_path / "raw.fits", HIERARCH__ESO__DET__OUT1__PRSCX=10, HIERARCH__ESO__DET__OUT1__OVSCY=0)
    frame, _ = parts(file, tmp_path / "out")[0]
    found = regions(frame, pixels(0).shape)
    assert found.data == (slice(0, 52), slice(10, 78))
    assert found.overscan_x == (slice(0, 52), slice(78, 124))


def test_strips_are_binned_like_the_frame(tmp_path: Path) -> None:
    file = write_wfi(tmp_path / "raw.fits", HIERARCH__ESO__DET__WIN1__BINX=2, HIERARCH__ESO__DET__WIN1__BINY=2)
    frame, _ = parts(file, tmp_path / "out")[0]
    assert frame.readout == "2x2 77x36"
    assert regions(frame, pixels(0).shape).prescan_x == (slice(0, 36), slice(0, 24))


def test_odd_cards_are_neither_printed_nor_in_the_way(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = write_wfi(tmp_path / "raw.fits", OBSERVER="somebody")
    odd = b"OBSERVER= not quoted at all"
    content = file.read_bytes()
    card = re.search(rb"OBSERVER= 'somebody' *", content)
    assert card
    file.write_bytes(content.replace(card[0][:80], odd.ljust(80)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = parts(file, tmp_path / "out")
    with fits.open(made[0][1]) as units:
        units.verify("exception")
        assert units[0].header["OBSERVER"] == "not quoted at all"
    assert capfd.readouterr() == ("", "")


def test_the_class_follows_the_type_rules(tmp_path: Path) -> None:
    expected = {
        "DARK": "RawDarkFrame",
        "FLAT,DOME": "RawDomeFlatFrame",
        "FLAT,SKY": "RawTwilightFlatFrame",
        "STD,ZEROPOINT": "RawStandardFrame",
        "OBJECT": "RawScienceFrame",
    }
    for dpr, frame_class in expected.items():
        file = write_wfi(tmp_path / "raw.fits", chips=1, HIERARCH__ESO__DPR__TYPE=dpr, EXPTIME=10.0)
        assert parts(file, tmp_path / "out")[0][0].frame_class == frame_class


def test_other_extensions_of_a_camera_are_skipped_where_its_file_says_so(tmp_path: Path) -> None:
    wfi = INSTRUMENTS.get("WFI")
    text = (Path(split.__code__.co_filename).parent / "instruments" / "WFI.toml").read_text()
    (tmp_path / "wfi.toml").write_text(text.replace("[detector]", '[[skip]]\nEXTNAME = "*CHIP2*"\n[detector]'))
    folder = tmp_path / "out"
    folder.mkdir()
    made = split(write_wfi(tmp_path / "raw.fits", chips=3), "raw.fits", load(tmp_path), folder)
    assert [frame.chip for frame, _ in made] == [wfi.chips[0].name, wfi.chips[2].name]


def test_one_ccd_is_in_memory_at_a_time(tmp_path: Path) -> None:
    plain = write_wfi(tmp_path / "raw.fits", chips=8, size=(2000, 60))
    _rice(plain, tmp_path / "raw.fits.fz")
    (tmp_path / "out").mkdir()
    tracemalloc.start()
    try:
        made = parts(tmp_path / "raw.fits.fz", tmp_path / "out")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    one = made[0][0].size
    assert peak < 4 * one, f"{peak / one:.1f} CCDs"


# What is refused


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "empty.fits"
    file.touch()
    assert refusal(file, tmp_path) == "is empty"


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "notes.fits"
    file.write_text("These are my notes of the night.")
    assert refusal(file, tmp_path) == "is no FITS file: it begins with b'These are'"


def test_a_file_that_ends_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write_wfi(tmp_path / "whole.fits", size=(300, 200)).read_bytes()
    file = tmp_path / "cut.fits"
    for length in (10, 2000, 2881, 5760, 40000, len(whole) // 2, len(whole) - 2880, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert re.match(r"is (truncated|corrupt|no FITS)|holds no image", refusal(file, tmp_path)), length


def test_a_file_that_ends_between_two_extensions_is_refused_where_its_header_counts_them(tmp_path: Path) -> None:
    file = write_wfi(tmp_path / "cut.fits", chips=2, NEXTEND=8)
    assert refusal(file, tmp_path) == "is truncated: its header tells of 8 extensions, there are 2"


def test_a_compressed_file_that_ends_within_its_data_is_refused(tmp_path: Path) -> None:
    whole = nickel().read_bytes()
    file = tmp_path / "cut.fits.fz"
    for length in (len(whole) // 3, len(whole) - 2880):
        file.write_bytes(whole[:length])
        assert re.match("is (truncated|corrupt)", refusal(file, tmp_path)), length


@pytest.mark.parametrize("length", [0.5, 0.99])
def test_a_gzipped_file_that_ends_early_is_refused(tmp_path: Path, length: float) -> None:
    whole = gzip.compress(write_wfi(tmp_path / "whole.fits").read_bytes())
    file = tmp_path / "cut.fits.gz"
    file.write_bytes(whole[: int(len(whole) * length)])
    refusal(file, tmp_path)


def test_a_changed_byte_is_found_by_the_checksum(tmp_path: Path) -> None:
    plain = write_wfi(tmp_path / "raw.fits")
    file = tmp_path / "flipped.fits"
    with fits.open(plain) as units:
        units.writeto(file, checksum=True)
    content = bytearray(file.read_bytes())
    content[-3000] ^= 1
    file.write_bytes(content)
    assert re.match("is corrupt: (Data|Check)sum verification failed for HDU", refusal(file, tmp_path))


def test_a_changed_byte_of_a_compressed_file_is_found(tmp_path: Path) -> None:
    content = bytearray(nickel().read_bytes())
    content[400_000] ^= 0xFF
    file = tmp_path / "flipped.fits.fz"
    file.write_bytes(content)
    assert refusal(file, tmp_path).startswith("is corrupt: Checksum verification failed")


def test_compressed_data_that_cannot_be_unpacked_are_refused(tmp_path: Path) -> None:
    with fits.open(nickel()) as units:
        units[1].header.remove("CHECKSUM", ignore_missing=True)
        bad = tmp_path / "bad.fits.fz"
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(units[1].data, units[1].header)]).writeto(bad)
    content = bytearray(bad.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2000] = b"\xff" * 2000
    bad.write_bytes(content)
    assert refusal(bad, tmp_path).startswith("is truncated or corrupt: the image of HDU ")


def test_rubbish_after_the_last_extension_is_refused(tmp_path: Path) -> None:
    file = write_wfi(tmp_path / "raw.fits")
    file.write_bytes(file.read_bytes() + b"rubbish" * 1000)
    assert refusal(file, tmp_path).startswith("is truncated or corrupt after HDU 2: ")


def test_any_damage_to_the_headers_gives_one_line_or_a_frame(tmp_path: Path) -> None:
    whole = write_wfi(tmp_path / "whole.fits", chips=1).read_bytes()
    file, folder = tmp_path / "hit.fits", tmp_path / "out"
    generator = np.random.default_rng(7)
    for _ in range(100):
        content = bytearray(whole)
        for place in generator.integers(0, 5760, 3):
            content[place] = generator.integers(0, 256)
        file.write_bytes(content)
        _split_or_refuse(file, folder)


def _split_or_refuse(file: Path, folder: Path) -> None:
    message = ""
    try:
        for _, path in parts(file, folder):
            path.unlink()
    except BadExposure as error:
        message = str(error)
    assert re.fullmatch("(hit.fits: .+)?", message)
    assert list(folder.iterdir()) == []


HEADERS: list[tuple[dict[str, Any], str]] = [
    (
        {"INSTRUME": "STE3 CCD"},
        "INSTRUME='STE3 CCD' is of no known instrument (DECAM, GENERIC, LCO, NICKEL, OMEGACAM, WFC, WFI)",
    ),
    (
        {"INSTRUME": None},
        "its header has no INSTRUME and is of no known instrument (DECAM, GENERIC, LCO, NICKEL, OMEGACAM, WFC, WFI)",
    ),
    ({"DATE_OBS": None, "MJD_OBS": None}, "image 1: has no start of the exposure: none of DATE-OBS, DATE-BEG"),
    ({"DATE_OBS": "NaN"}, "image 1: DATE-OBS='NaN' is not a date such as '2000-04-28T23:15:00.123'"),
    ({"DATE_OBS": "2000-04-28"}, "image 1: DATE-OBS='2000-04-28' is a date without a time of day"),
    ({"EXPTIME": None}, "image 1: has none of EXPTIME, EXPOSURE"),
    ({"EXPTIME": "nan"}, "image 1: EXPTIME='nan' is not a finite number"),
    ({"EXPTIME": -1.0}, "image 1: has a negative exposure time of -1 s"),
    ({"EXPTIME": 300.0}, "image 1: contradicts itself: a bias of 300 s"),
    ({"HIERARCH__ESO__DPR__TYPE": "FLAT,DOME"}, "image 1: contradicts itself: a RawDomeFlatFrame of 0 s"),
    (
        {"HIERARCH__ESO__DPR__TYPE": "FOCUS", "OBJECT": "x"},
        "image 1: fits no type rule of WFI.toml: ESO DPR TYPE='FOCUS', OBJECT='x', exptime=0.0",
    ),
    (
        {"MJD_OBS": 51660.0},
        (
            "image 1: contradicts itself: the exposure began 2000-04-28T22:01:03, "
            "but MJD-OBS=51660.0 is 2000-04-26T00:00:00"
        ),
    ),
    ({"MJD_OBS": "nan"}, "image 1: MJD-OBS='nan' is not a finite number"),
    ({"HIERARCH__ESO__DET__WIN1__BINX": 0}, "image 1: has a binning of 0 x 1"),
    ({"HIERARCH__ESO__DET__WIN1__BINX": 1.5}, "image 1: ESO DET WIN1 BINX=1.5 is not a whole number"),
    (
        {"HIERARCH__ESO__DET__OUT1__PRSCX": 100},
        "image 1: 124 x 52 pixels leave no data beside strips of 100 + 46 columns and 0 + 32 rows",
    ),
]


@pytest.mark.parametrize(("changes", "message"), HEADERS)
def test_a_header_that_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert refusal(write_wfi(tmp_path / "bad.fits", **changes), tmp_path) == message


def test_an_exposure_that_is_larger_than_its_chip_is_refused(tmp_path: Path) -> None:
    file = write_wfi(tmp_path / "bad.fits", chips=1, size=(2049, 20))
    assert (
        refusal(file, tmp_path) == "image 1: has 2143 x 52 pixels, more than a chip of WFI binned 1 x 1 (2142 x 4128)"
    )


def test_two_images_of_one_chip_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    file = write_wfi(tmp_path / "bad.fits", chips=2)
    fits.setval(file, "EXTNAME", value="CHIP1", ext=2)
    assert refusal(file, tmp_path) == "contradicts itself: two images of chip 'ccd50'"


def test_an_extension_that_names_no_chip_is_refused(tmp_path: Path) -> None:
    file = write_wfi(tmp_path / "bad.fits", chips=2)
    fits.setval(file, "EXTNAME", value="GUIDER", ext=2)
    message = "image 2: ESO DET CHIP1 ID='', EXTNAME='GUIDER' names no chip of WFI (ccd50 ... ccd57)"
    assert refusal(file, tmp_path) == message


def test_an_extension_that_contradicts_the_exposure_is_refused(tmp_path: Path) -> None:
    file = write_wfi(tmp_path / "bad.fits", chips=2)
    fits.setval(file, "DATE-OBS", value="2001-01-01T00:00:00", ext=2)
    assert refusal(file, tmp_path) == (
        "contradicts itself: DATE-OBS is '2000-04-28T22:01:03.250' in its first header "
        "and '2001-01-01T00:00:00' in another"
    )


def test_an_image_that_is_no_plane_is_refused(tmp_path: Path) -> None:
    file = write_wfi(tmp_path / "bad.fits", chips=1)
    with fits.open(file) as units:
        header = units[0].header
    fits.HDUList([fits.PrimaryHDU(header=header), fits.ImageHDU(np.zeros((2, 60, 130), "i2"))]).writeto(
        file, overwrite=True
    )
    assert refusal(file, tmp_path) == "HDU 1 is no image of two axes: 130 x 60 x 2"


def test_a_file_without_images_is_refused(tmp_path: Path) -> None:
    assert refusal(write_wfi(tmp_path / "bad.fits", chips=0), tmp_path) == "holds no image of a CCD"


def test_a_file_that_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        parts(tmp_path / "nowhere.fits", tmp_path / "out")


def test_a_folder_that_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        split(write_wfi(tmp_path / "raw.fits"), "raw.fits", INSTRUMENTS, tmp_path / "nowhere")


def test_a_full_disk_is_the_systems_error_and_leaves_nothing(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "WFI.2000-04-28T22:01:03.250_2.fits").symlink_to(full)
    with pytest.raises(OSError, match=os.strerror(28)):
        split(write_wfi(tmp_path / "raw.fits"), "raw.fits", INSTRUMENTS, folder)
    assert list(folder.iterdir()) == []


# The real night


def test_the_nickel_night_is_understood(tmp_path: Path) -> None:
    frames = []
    for file in sorted(real_data("nickel_20240513").iterdir()):
        ((frame, path),) = parts(file, tmp_path / "out")
        frames.append(frame)
        assert path.stat().st_size == frame.size
    assert {(frame.night, frame.chip, frame.readout) for frame in frames} == {
        (date(2024, 5, 12), "ccd0", "2x2 1024x1024 GAIN=1 READ-SPD=80")
    }
    assert Counter((frame.frame_class, frame.filter) for frame in frames) == {
        ("RawBiasFrame", "B"): 10,
        ("RawTwilightFlatFrame", "V"): 3,
        ("RawScienceFrame", "V"): 6,
    }
    assert frames[0].file_name == "NICKEL.2024-05-13T01:59:58.110_1.fits"
    # The header's GAIN is an index.
    assert frames[0].values["GAIN"] == 1.79
    found = regions(frames[0], (1024, 1056))
    assert (found.data, found.overscan_x) == (
        (slice(0, 1024), slice(0, 1024)),
        (slice(0, 1024), slice(1028, 1056)),
    )


def test_a_data_section_that_contradicts_the_strips_is_refused(tmp_path: Path) -> None:
    with fits.open(nickel()) as units:
        header, data = units[1].header, units[1].data
    header["COVER"] = 16
    file = tmp_path / "bad.fits"
    fits.PrimaryHDU(data, header).writeto(file)
    assert refusal(file, tmp_path) == (
        "image 1: contradicts itself: DATASEC='[1:1024,1:1024]', but the strips leave 1040 x 1024 pixels"
    )


def test_a_real_frame_is_the_same_packed_and_plain(tmp_path: Path) -> None:
    with fits.open(nickel()) as units:
        header, data = units[1].header, units[1].data
    plain = tmp_path / "d1001.fits"
    fits.PrimaryHDU(data, header).writeto(plain)
    assert parts(plain, tmp_path / "a")[0][0].id == parts(nickel(), tmp_path / "b")[0][0].id


# Products


def product(**changes: Any) -> Frame:
    frame = Frame(
        frame_class="BiasFrame",
        instrument="WFI",
        chip="ccd50",
        night=date(2000, 4, 28),
        date_obs=datetime(2000, 4, 28, 22, 1, 3, 250000, tzinfo=UTC),
        readout="1x1 2048x4096",
        overscan=6,
        values={"MEAN": 0.25, "STDEV": float("nan"), "SUBWINDOW_MEANS": [1.0, 2.0]},
        inputs=("a" * 64, "b" * 64),
        parameters={"BiasFrame.process_params.SIGMA_CLIP": 3.0},
    )
    return frame.evolve(**changes)


def test_a_product_carries_its_record_and_its_provenance(tmp_path: Path) -> None:
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_image(tmp_path / "bias.fits", image, product(), {"BUNIT": "ADU"})
    data, header = read_image(tmp_path / "bias.fits")
    np.testing.assert_array_equal(data, image)
    assert data.dtype == np.float32
    expected = {
        "FRAMECLS": "BiasFrame",
        "INSTRUME": "WFI",
        "CHIP": "ccd50",
        "NIGHT": "2000-04-28",
        "DATE-OBS": "2000-04-28T22:01:03.250",
        "READOUT": "1x1 2048x4096",
        "OVSCMETH": 6,
        "QCFLAGS": 0,
        "MEAN": 0.25,
        "SUBWINDOW_MEANS": "[1.0, 2.0]",
        "NINPUTS": 2,
        "INPUT1": "a" * 64,
        "INPUT2": "b" * 64,
        "PARAM1": "BiasFrame.process_params.SIGMA_CLIP = 3.0",
        "BUNIT": "ADU",
    }
    assert {key: header[key] for key in expected} == expected
    assert header["STDEV"] is None


def test_the_same_product_is_the_same_bytes(tmp_path: Path) -> None:
    image = np.ones((3, 4), np.uint8)
    for name in ("one.fits", "two.fits"):
        write_image(tmp_path / name, image, product())
    assert (tmp_path / "one.fits").read_bytes() == (tmp_path / "two.fits").read_bytes()


def test_an_image_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="complex"):
        write_image(tmp_path / "bias.fits", np.ones((3, 4), complex), product())
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "x.fits"
    file.write_bytes(b"nothing")
    with pytest.raises(BadImage, match=r"^x\.fits cannot be read as FITS: "):
        read_image(file)
    fits.PrimaryHDU().writeto(file, overwrite=True)
    with pytest.raises(BadImage, match=r"^x\.fits holds no image of two axes$"):
        read_image(file)
