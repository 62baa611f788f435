"""Products brought from the archive: whole or not at all, opened, drawn."""

import io

import numpy as np
import pytest
from astropy.io import fits

from dpu.errors import InternalError, NotFound, NothingSelected, UsageError
from dpu.exported import export, stored_digest
from dpu.processor import Processor
from dpu.report import Reporter
from fakes_client import configured, images, product, serving


@pytest.fixture
def script():
    return images()


@pytest.fixture
def dpu(tmp_path, script):
    with serving(tmp_path, script) as address:
        reporter = Reporter(host="schmidt", out=io.StringIO())
        processor = Processor(configured(tmp_path, address), reporter=reporter)
        yield processor
        processor.close()


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_files_of_a_job_arrive_under_their_names(dpu, script, tmp_path):
    folder = tmp_path / "a" / "b"
    paths = dpu.fetch(84820, folder)
    assert paths == [folder / "Bias-ccd50.fits", folder / "Bias-ccd51.fits"]
    for path, content in zip(paths, script.files.values(), strict=True):
        with fits.open(path) as brought, fits.open(io.BytesIO(content)) as stored:
            assert np.array_equal(brought[0].data, stored[0].data)
    assert names(folder) == ["Bias-ccd50.fits", "Bias-ccd51.fits"]


def test_the_header_of_a_file_that_was_brought_says_how_it_was_made(dpu, script, tmp_path):
    frame = script.frames[0]
    frame.user, frame.code_digest = "o'sada", "c0de" * 16
    frame.ref.job_id = 84820
    frame.creation_date.FromJsonString("2026-03-01T12:00:00.5Z")
    path = dpu.fetch(84820, tmp_path / "a")[0]
    with fits.open(path) as brought:
        brought.verify("exception")
        header = brought[0].header
        assert {key: header[key] for key in header if key.startswith("DPU")} == {
            "DPUUSER": "o'sada",
            "DPUJOB": 84820,
            "DPUTASK": frame.ref.task,
            "DPUTRY": frame.ref.attempt,
            "DPUDATE": "2026-03-01T12:00:00.500000",
            "DPUCODE": "c0de" * 16,
            "DPUFILE": frame.digest,
        }
    assert path.stat().st_size % 2880 == 0


@pytest.mark.parametrize("cards", range(25, 40))
def test_what_a_file_was_in_the_archive_is_known_of_the_exported_one(cards):
    hdu = fits.PrimaryHDU(np.arange(12, dtype=np.int16))
    for number in range(cards):
        hdu.header[f"CARD{number}"] = number
    stored, brought = io.BytesIO(), io.BytesIO()
    hdu.writeto(stored)
    frame = product("ccd50", stored.getvalue())
    export(stored, frame, brought)
    assert stored_digest(brought, "x.fits") == frame.digest
    with fits.open(io.BytesIO(brought.getvalue())) as opened:
        assert opened[0].header["CARD7"] == 7
        assert list(opened[0].data) == list(range(12))
    changed = bytearray(brought.getvalue())
    changed[-2880] += 1
    assert stored_digest(io.BytesIO(changed), "x.fits") != frame.digest


def test_what_is_no_fits_file_is_refused():
    for content in (b"", b"x" * 2880, b"SIMPLE  = T".ljust(2880)):
        with pytest.raises(InternalError, match=r"x\.fits is no FITS file"):
            stored_digest(io.BytesIO(content), "x.fits")


def test_a_file_that_is_there_is_not_brought_again(dpu, script, tmp_path):
    dpu.fetch(84820, tmp_path / "a")
    dpu.fetch(84820, tmp_path / "a")
    assert [method for method, _ in script.asked].count("FetchFrame") == 2


def test_another_file_of_that_name_is_left_as_it_is(dpu, tmp_path):
    (tmp_path / "a").mkdir()
    mine = tmp_path / "a" / "Bias-ccd50.fits"
    mine.write_text("mine")
    with pytest.raises(UsageError, match="is there with another content: name another folder"):
        dpu.fetch(84820, tmp_path / "a")
    assert (mine.read_text(), names(tmp_path / "a")) == ("mine", ["Bias-ccd50.fits"])


def test_what_does_not_arrive_whole_is_not_there_at_all(dpu, script, tmp_path):
    script.files["id-ccd50"] = script.files["id-ccd50"][:-1]
    with pytest.raises(InternalError, match=r"Bias-ccd50.fits did not arrive as it is in the archive: try again"):
        dpu.fetch(84820, tmp_path / "a")
    assert names(tmp_path / "a") == []


def test_a_folder_that_cannot_be_made_is_one_line(dpu, tmp_path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(UsageError, match="cannot be written: "):
        dpu.fetch(84820, tmp_path / "a")


def test_a_job_without_files_says_what_it_has(dpu, script, tmp_path):
    script.frames = [product("ccd50")]
    with pytest.raises(NothingSelected, match="only measured values: dpu.get_job_result shows them"):
        dpu.fetch(84820, tmp_path)
    script.frames = []
    with pytest.raises(NothingSelected, match=r"it made nothing so far \(what stands already is not"):
        dpu.open(84820)
    with pytest.raises(NotFound):
        dpu.fetch(7, tmp_path)


def test_products_are_opened_by_astropy(dpu, script, tmp_path):
    first, second = dpu.open(84820)
    assert (round(float(np.mean(first[0].data))), round(float(np.mean(second[0].data)))) == (100, 200)
    here = tmp_path / "here.fits"
    here.write_bytes(script.files["id-ccd51"])
    script.frames[0].path = str(here)
    (in_place, _) = dpu.open(84820)
    assert in_place.filename() == str(here)
    in_place.close()


def test_show_prints_the_table(dpu, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    dpu.show(84820)
    shown = dpu._reporter.out.getvalue()
    assert "Bias: Jobid 84820 has status FINISHED N/E/A/S/U 2/0/0/0/0" in shown
    assert dpu.job(84820).tasks[0].label == "ccd50"
