"""What every adapter of dpu_recipes.archive.Archive does, and what the one over a folder does beside it."""

import hashlib
import json
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpu_recipes.archive import Archive, ArchiveError, MissingCalibration, Selection
from dpu_recipes.archive_folder import FolderArchive
from dpu_recipes.exposure import BadExposure
from dpu_recipes.frames import Frame, read_image, write_image
from dpu_recipes.instruments import load
from dpu_recipes.validity import window
from fakes_instruments import pixels, real_data, write_wfi

INSTRUMENTS = load()
BIASES = Selection(instrument="WFI", night="2000-04-28")


class Clock:
    """A minute later each time that it is asked."""

    def __init__(self) -> None:
        self.time = datetime(2000, 5, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(minutes=1)
        return self.time


@pytest.fixture
def folder(tmp_path: Path) -> FolderArchive:
    return FolderArchive(tmp_path / "archive", INSTRUMENTS, now=Clock())


@pytest.fixture
def archive(folder: FolderArchive, tmp_path: Path) -> Archive:
    """Give the port with two biases of two chips in it."""
    for minute in (1, 2):
        folder.ingest(write_wfi(tmp_path / f"raw{minute}.fits", DATE_OBS=f"2000-04-28T22:0{minute}:00", MJD_OBS=None))
    return folder


def product_of(frame: Frame, **changes: Any) -> Frame:
    start, end = window("BiasFrame", frame.night, -70.7)
    made = Frame(
        frame_class="BiasFrame",
        instrument=frame.instrument,
        chip=frame.chip,
        night=frame.night,
        date_obs=frame.date_obs,
        readout=frame.readout,
        overscan=6,
        values={"MEAN": 0.5},
        timestamp_start=start,
        timestamp_end=end,
        inputs=(frame.id,),
        parameters={"BiasFrame.process_params.SIGMA_CLIP": 3.0},
    )
    return made.evolve(**changes)


# The port


def test_frames_come_in_order_of_time_and_chip(archive: Archive) -> None:
    found = [(frame.date_obs.minute, frame.chip) for frame in archive.select("RawBiasFrame", BIASES)]
    assert found == [(1, "ccd50"), (1, "ccd51"), (2, "ccd50"), (2, "ccd51")]


def test_nothing_found_is_an_empty_list(archive: Archive) -> None:
    assert archive.select("RawDarkFrame", BIASES) == []
    assert archive.select("RawBiasFrame", Selection(instrument="WFI", night="2000-04-29")) == []


def test_a_frame_is_found_by_its_identifier(archive: Archive) -> None:
    frame = archive.select("RawBiasFrame", BIASES)[1]
    assert archive.find(frame.id) == frame


def test_an_unknown_identifier_is_refused(archive: Archive) -> None:
    with pytest.raises(ArchiveError, match="there is no frame 'abc'"):
        archive.find("abc")


def test_a_raw_frames_file_has_its_pixels_and_its_digest(archive: Archive) -> None:
    frame = archive.select("RawBiasFrame", BIASES)[1]
    path = archive.open(frame)
    np.testing.assert_array_equal(read_image(path)[0], pixels(1))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == frame.id == frame.digest


def test_a_file_of_the_archive_is_read_only(archive: Archive) -> None:
    path = archive.open(archive.select("RawBiasFrame", BIASES)[0])
    assert path.stat().st_mode & 0o222 == 0


def test_a_saved_product_is_found_with_all_that_it_said(archive: Archive, tmp_path: Path) -> None:
    record = product_of(archive.select("RawBiasFrame", BIASES)[0])
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_image(tmp_path / "bias.fits", image, record)
    content = (tmp_path / "bias.fits").read_bytes()
    saved = archive.save(record, tmp_path / "bias.fits")
    assert not (tmp_path / "bias.fits").exists()
    given = {name: getattr(saved, name) for name in ("id", "file_name", "digest", "size", "creation_date")}
    assert saved == record.evolve(**given)
    assert all(given.values())
    assert (saved.digest, saved.size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert archive.find(saved.id) == saved
    assert archive.open(saved).read_bytes() == content
    assert archive.select("BiasFrame", BIASES) == [saved]


def test_a_product_of_values_only_has_no_file(archive: Archive) -> None:
    saved = archive.save(product_of(archive.select("RawBiasFrame", BIASES)[0], frame_class="ReadNoise"))
    assert (saved.digest, saved.size) == ("", 0)
    with pytest.raises(ArchiveError, match="has no file"):
        archive.open(saved)


def test_two_equal_products_are_two(archive: Archive) -> None:
    record = product_of(archive.select("RawBiasFrame", BIASES)[0])
    assert archive.save(record).id != archive.save(record).id
    assert len(archive.select("BiasFrame", BIASES)) == 2


def test_the_newest_calibration_of_the_night_is_given(archive: Archive) -> None:
    frame = archive.select("RawBiasFrame", BIASES)[0]
    archive.save(product_of(frame))
    newer = archive.save(product_of(frame))
    archive.save(product_of(frame, quality_flags=1))
    archive.save(product_of(frame, chip="ccd51"))
    assert archive.calibration("BiasFrame", frame) == newer


def test_a_calibration_is_given_by_overscan_method_where_that_is_asked_for(archive: Archive) -> None:
    frame = archive.select("RawBiasFrame", BIASES)[0]
    ten = archive.save(product_of(frame, overscan=10))
    archive.save(product_of(frame))
    assert archive.calibration("BiasFrame", frame, overscan=10) == ten


def test_a_missing_calibration_is_told_with_the_call_that_makes_it(archive: Archive) -> None:
    frame = archive.select("RawBiasFrame", BIASES)[0]
    with pytest.raises(MissingCalibration, match=r"dpu\.run\('ReadNoise', i='WFI', d='2000-04-28', C=1\)"):
        archive.calibration("ReadNoise", frame)


# The folder


def test_the_choice_of_a_calibration_is_logged(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    frame = archive.select("RawBiasFrame", BIASES)[0]
    saved = archive.save(product_of(frame))
    with caplog.at_level(logging.INFO, "dpu_recipes"):
        archive.calibration("BiasFrame", frame)
    assert caplog.messages == [f"Using BiasFrame {saved.file_name} (same night, newest of 1)"]


def test_an_exposure_that_comes_twice_adds_nothing(folder: FolderArchive, tmp_path: Path) -> None:
    file = write_wfi(tmp_path / "raw.fits")
    first = folder.ingest(file)
    before = sorted((tmp_path / "archive").rglob("*"))
    again = folder.ingest(file.rename(tmp_path / "renamed.fits"))
    assert again == first
    assert sorted((tmp_path / "archive").rglob("*")) == before


def test_a_bad_exposure_leaves_nothing(folder: FolderArchive, tmp_path: Path) -> None:
    before = sorted((tmp_path / "archive").rglob("*"))
    with pytest.raises(BadExposure, match=r"^raw\.fits: image 1: contradicts itself: a bias of 60 s$"):
        folder.ingest(write_wfi(tmp_path / "raw.fits", EXPTIME=60.0))
    assert sorted((tmp_path / "archive").rglob("*")) == before


def test_what_one_archive_takes_in_another_over_the_same_folder_sees(archive: Archive, tmp_path: Path) -> None:
    other = FolderArchive(tmp_path / "archive", INSTRUMENTS)
    frames = other.select("RawBiasFrame", BIASES)
    assert frames == archive.select("RawBiasFrame", BIASES)
    saved = archive.save(product_of(frames[0]))
    assert other.find(saved.id) == saved


def test_a_product_whose_record_cannot_be_written_is_not_there(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = product_of(archive.select("RawBiasFrame", BIASES)[0])
    write_image(tmp_path / "bias.fits", np.ones((3, 4), np.float32), record)

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=os.strerror(28)):
            archive.save(record, tmp_path / "bias.fits")
    assert archive.select("BiasFrame", BIASES) == []
    assert FolderArchive(tmp_path / "archive", INSTRUMENTS).select("BiasFrame", BIASES) == []
    assert [path.name for path in (tmp_path / "archive").rglob("*.part")] == []


def test_records_are_readable_json(archive: Archive, tmp_path: Path) -> None:
    records = [json.loads(path.read_text()) for path in (tmp_path / "archive" / "records").iterdir()]
    frames = [[Frame.from_dict(row) for row in record] for record in records]
    assert [[frame.chip for frame in exposure] for exposure in frames] == [["ccd50", "ccd51"]] * 2
    assert all(archive.find(frame.id) == frame for exposure in frames for frame in exposure)


def test_the_nickel_night_is_found_by_its_evening(folder: FolderArchive) -> None:
    for file in sorted(real_data("nickel_20240513").iterdir()):
        folder.ingest(file)
    classes = ("RawBiasFrame", "RawDarkFrame", "RawDomeFlatFrame", "RawTwilightFlatFrame", "RawScienceFrame")
    found = [len(folder.select(name, Selection(instrument="NICKEL", night="2024-05-12"))) for name in classes]
    assert found == [10, 0, 0, 3, 6]
    assert sum(len(folder.select(name, Selection(instrument="NICKEL", night="2024-05-13"))) for name in classes) == 0
    # A bias carries a filter's name, which says nothing.
    assert len(folder.select("RawBiasFrame", Selection(instrument="NICKEL", filter="V", object="PG*"))) == 10
    assert len(folder.select("RawScienceFrame", Selection(instrument="NICKEL", object="NGC_????"))) == 3
    named = Selection(instrument="NICKEL", file_names=("d1001.fits", "d1003.fits.fz"))
    exposures = [frame.values["EXPOSURE"] for frame in folder.select("RawBiasFrame", named)]
    assert exposures == ["d1001.fits.fz", "d1003.fits.fz"]
