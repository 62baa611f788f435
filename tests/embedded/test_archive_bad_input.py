"""Whatever is wrong with a file, the archive names it and says why, keeps nothing of it, and takes the next."""

import re

import pytest

from dpu.ingest import Outcome, take
from dpu_api.v1.archive_pb2 import IngestFile
from fakes_archive import files_of
from fakes_archive_bad import BAD, Door, date_obs, door_of, write_good


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    with door_of(folder) as opened:
        assert take(opened, write_good(folder / "first.fits", 0)).frames == 1
        yield opened


@pytest.mark.parametrize("way", BAD)
def test_a_bad_file_is_named_with_its_reason_and_leaves_nothing(door: Door, tmp_path, way) -> None:
    path = tmp_path / "bad.fits"
    BAD[way].write(path, 1)
    before = files_of(door.state)
    outcome = take(door, path)
    assert outcome.frames == 0
    assert re.fullmatch(BAD[way].reason, outcome.reason)
    assert files_of(door.state) == before


def test_the_next_file_goes_in(door: Door, tmp_path) -> None:
    path = write_good(tmp_path / "next.fits", 2)
    assert take(door, path) == Outcome(path=path, frames=1)
    (frame,) = [frame for frame in door.frames() if frame.values.entries["EXPOSURE"].string_value == "next.fits"]
    assert frame.file_name == f"WFI.{date_obs(2)}_1.fits"


def test_the_same_content_under_another_name_is_there_already(door: Door, tmp_path) -> None:
    path = write_good(tmp_path / "again.fits", 0)
    assert take(door, path) == Outcome(path=path, frames=1, already=True)


def test_a_list_of_stars_goes_in_as_a_reference_catalogue(door: Door, tmp_path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("name,alpha,delta\na,13:25:50.5,-08:50:53\n")
    says = IngestFile(catalogue="MINE", columns={"RA": "alpha", "DEC": "delta"})
    assert take(door, path, says) == Outcome(path=path, frames=1)
    assert take(door, path, says) == Outcome(path=path, frames=1, already=True)
    (frame,) = door.frames("SKY")
    assert (frame.frame_class, frame.object, frame.chip) == ("ReferenceCatalogue", "MINE", "all")
    assert frame.values.entries["ROWS"].int_value == 1


def test_a_bad_list_of_stars_is_named_with_its_reason(door: Door, tmp_path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("name,alpha,delta\na,13:25:50.5,-08:50:53\n")
    before = files_of(door.state)
    refused = take(door, path, IngestFile(catalogue="MINE"))
    assert refused.reason == "has no column for RA (it has name, alpha, delta): name it with --column RA=NAME"
    assert files_of(door.state) == before
