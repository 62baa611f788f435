"""`awe ingest` against a scripted archive: in place or by bytes, what is refused, and the exit code."""

import re
from pathlib import Path

import pytest

from dpu.config import KnownDpu
from dpu.errors import BadFrame, NotAllowed, StorageFull, UsageError
from dpu.ingest import Outcome, find_files, ingest, requests
from dpu.link import Link
from dpu.prompt import main
from dpu_api.v1.archive_pb2 import IngestFile, IngestRequest
from fakes_client import Script, configured, serving
from fakes_instruments import write_wfi

MIB = 1024 * 1024


def hear(_outcome: Outcome) -> None:
    pass


@pytest.fixture
def night(tmp_path):
    folder = tmp_path / "night"
    (folder / "deep").mkdir(parents=True)
    for number, name in enumerate(["b.fits", "a.FITS", "deep/c.fits.fz", "deep/d.fits.gz", "notes.txt"]):
        (folder / name).write_bytes(bytes([number]) * (MIB + 1))
    return folder


@pytest.fixture
def served(tmp_path):
    script = Script()
    with serving(tmp_path, script) as address:
        yield script, address


@pytest.fixture
def link(tmp_path, served):
    _, address = served
    link = Link(configured(tmp_path, address).find("groningen"), "default", home=tmp_path, say=print)
    yield link
    link.close()


def test_folders_give_their_fits_files_and_a_named_file_is_taken_whatever_its_name(night):
    assert find_files([night, night / "notes.txt", night / "b.fits"]) == [
        night / name for name in ("a.FITS", "b.fits", "deep/c.fits.fz", "deep/d.fits.gz", "notes.txt")
    ]


@pytest.mark.parametrize(("name", "message"), [("none", "'.*none' does not exist"), ("empty", "holds no FITS file")])
def test_a_path_with_nothing_to_take_is_used_wrongly(night, name, message):
    (night / "empty").mkdir()
    with pytest.raises(UsageError, match=message):
        find_files([night, night / name])


def test_bytes_travel_in_chunks_and_the_same_content_is_there_already(night, served, link):
    (night / "e.fits").write_bytes((night / "b.fits").read_bytes())
    heard: list[Outcome] = []
    first = ingest(link, [night / "b.fits"], heard.append)
    again = ingest(link, [night / "e.fits"], heard.append)
    assert served[0].ingested[0] == (str(night / "b.fits"), "", (night / "b.fits").read_bytes())
    assert first.lines() == ["1 file, 2 new frames, 0 already there, 0 refused"]
    assert again.lines() == ["1 file, 0 new frames, 1 already there, 0 refused"]
    assert heard == [*first.outcomes, *again.outcomes]


def test_the_embedded_dpu_is_told_where_to_read(night, monkeypatch):
    monkeypatch.chdir(night)
    named = IngestFile(name="b.fits", path=str(night / "b.fits"))
    assert list(requests(Path("b.fits"), IngestFile(), in_place=True)) == [IngestRequest(file=named)]


def test_a_bad_file_is_named_with_the_reason_and_the_rest_go_in(night, served, link):
    served[0].refuse["b.fits"] = BadFrame(f"{night / 'b.fits'}: is truncated")
    (night / "gone.fits").symlink_to(night / "nothing")
    files = [night / "a.FITS", night / "b.fits", night / "gone.fits", night / "deep" / "c.fits.fz"]
    assert ingest(link, files, hear).lines() == [
        "4 files, 4 new frames, 0 already there, 2 refused",
        f"Refused {str(night / 'b.fits')!r}: is truncated",
        f"Refused {str(night / 'gone.fits')!r}: cannot be read: No such file or directory",
    ]


@pytest.mark.parametrize("error", [StorageFull("the disk of the archive is full"), NotAllowed("not you")])
def test_what_is_no_fault_of_a_file_ends_the_whole(night, served, link, error):
    served[0].refuse["b.fits"] = error
    with pytest.raises(type(error), match=error.message):
        ingest(link, [night / "b.fits"] * 20, hear)
    assert served[0].ingested == []


def test_a_connection_that_is_lost_is_tried_again(night, served, link):
    ingest(link, [night / "a.FITS"], hear)
    served[0].unavailable = 1
    assert ingest(link, [night / "b.fits"], hear).refused == []


@pytest.fixture
def awe(tmp_path, served, monkeypatch):
    """Settings of `awe` in the environment."""
    configured(tmp_path, served[1])
    text = f'default = "x"\n[dpus.x]\naddress = "{served[1]}"\ntoken_file = "token"\n'
    (tmp_path / "config.toml").write_text(text)
    monkeypatch.setenv("DPU_CONFIG", str(tmp_path / "config.toml"))
    return served[0]


@pytest.mark.usefixtures("awe")
def test_awe_ingest_prints_a_line_a_file_and_a_summary(night, capsys):
    assert main(["ingest", str(night / "deep")]) == 0
    said = [re.sub(r"^\[\S+\] \d\d:\d\d:\d\d - ", "", line) for line in capsys.readouterr().out.splitlines()]
    assert [line for line in said if "listening" not in line] == [
        "1/2 c.fits.fz: 2 frames",
        "2/2 d.fits.gz: 2 frames",
        "2 files, 4 new frames, 0 already there, 0 refused",
    ]


def test_awe_ingest_tells_by_its_exit_code(awe, night, capsys, tmp_path):
    awe.refuse["b.fits"] = BadFrame("b.fits: is truncated")
    assert main(["ingest", str(night / "b.fits")]) == 1
    assert main(["ingest", str(night / "none")]) == 2
    with pytest.raises(SystemExit, match="^2$"):
        main(["ingest"])
    text = 'default = "x"\n[dpus.x]\naddress = "unix:/nobody/here.sock"\ntoken_file = "token"\n'
    (tmp_path / "config.toml").write_text(text)
    assert main(["ingest", str(night / "b.fits")]) == 4
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == f"awe: {str(night / 'none')!r} does not exist"
    assert errors[-1].startswith("awe: DPU 'x' cannot be reached: ")


def test_the_camera_that_was_asked_for_is_told(night, served, link):
    script, _ = served
    ingest(link, [night / "b.fits"], hear, instrument="GENERIC")
    assert [asked.instrument for call, asked in script.asked if call == "Ingest"] == ["GENERIC"]


def test_awe_instrument_check_tells_by_its_exit_code(tmp_path, capfd):
    good, bad = write_wfi(tmp_path / "good.fits"), tmp_path / "bad.fits"
    bad.write_bytes(b"")
    assert main(["instrument", "check", str(good)]) == 0
    assert capfd.readouterr().out.startswith("good.fits: WFI (WFI.toml), by INSTRUME='WFI'")
    assert main(["instrument", "check", str(bad)]) == 1
    (tmp_path / "camera.toml").write_text("name = 3")
    assert main(["instrument", "check", "--instruments", str(tmp_path), str(good)]) == 2
    assert "files cannot be understood here: camera.toml: detector.gain is missing" in capfd.readouterr().err


def test_a_dpu_is_known_to_be_local_by_its_name_alone():
    assert [KnownDpu(name=name).is_local for name in ("local", "groningen")] == [True, False]
