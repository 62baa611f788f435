"""Stars of a survey, fetched over HTTP from a service on this machine that answers as the real ones do."""

import threading
import urllib.parse
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dpu.prompt import main
from dpu.tap import SURVEYS, Cone
from dpu_recipes.reference_file import read
from fakes_client import Script, configured, serving

#: In the form in which a TAP service answers: three stars near PG1323-086.
GAIA = b"""ra,dec,pmra,pmdec,ref_epoch,source_id,ra_error,dec_error,phot_g_mean_mag,phot_bp_mean_mag,phot_rp_mean_mag
201.4150,-8.8256,-7.93,-9.15,2016.0,3630642345678901248,0.042,0.031,13.48,13.42,13.61
201.4600,-8.8399,12.71,-4.40,2016.0,3630642345678905600,0.018,0.015,13.35,13.72,12.81
201.4801,-8.8105,,,2016.0,3630642345678909952,0.9,0.7,20.61,,
"""


class Service:
    """A TAP service: what it is asked is kept, what it answers is given."""

    def __init__(self, status=200, body=GAIA):
        self.status, self.body = status, body
        self.asked = []


@contextmanager
def tap(service):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            said = self.rfile.read(int(self.headers["Content-Length"])).decode()
            service.asked.append((self.path, dict(urllib.parse.parse_qsl(said))))
            self.send_response(service.status)
            self.send_header("Content-Length", str(len(service.body)))
            self.end_headers()
            self.wfile.write(service.body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/tap"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def ingesting(tmp_path, monkeypatch):
    """A DPU that takes in what `awe` brings."""
    script = Script()
    with serving(tmp_path, script) as address:
        configured(tmp_path, address)
        text = f'default = "x"\n[dpus.x]\naddress = "{address}"\ntoken_file = "token"\n'
        (tmp_path / "config.toml").write_text(text)
        monkeypatch.setenv("DPU_CONFIG", str(tmp_path / "config.toml"))
        # No proxy between this machine and itself.
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield script


def test_the_stars_around_a_place_come_in_as_a_catalogue(ingesting, capsys):
    service = Service()
    with tap(service) as url:
        code = main(["ingest-catalogue", "--from", "gaia", "--around", "201.4", "-8.8", "0.25", "--tap", url])
    assert code == 0
    ((path, asked),) = service.asked
    assert (path, asked["FORMAT"], asked["LANG"]) == ("/tap/sync", "csv", "ADQL")
    assert "FROM gaiadr3.gaia_source" in asked["QUERY"]
    assert "CIRCLE('ICRS', 201.4, -8.8, 0.25)" in asked["QUERY"]
    ((_, _, content),) = ingesting.ingested
    assert content == GAIA
    assert [request.catalogue for call, request in ingesting.asked if call == "Ingest"] == ["GAIA_DR3"]
    assert "GAIA_DR3.csv: 2 tables of GAIA_DR3" in capsys.readouterr().out


def test_a_service_that_refuses_is_quoted_and_nothing_comes_in(ingesting, capsys):
    with tap(Service(400, b"<VOTABLE>no such table</VOTABLE>")) as url:
        code = main(["ingest-catalogue", "--from", "2mass", "--around", "201.4", "-8.8", "0.25", "--tap", url])
    assert code == 4
    assert "refused the question for 2MASS: HTTP 400: <VOTABLE>no such table" in capsys.readouterr().err
    assert ingesting.ingested == []


def test_an_answer_that_is_no_list_or_is_cut_off_does_not_come_in(ingesting, capsys, monkeypatch):
    words = ["ingest-catalogue", "--from", "gaia", "--around", "201.4", "-8.8", "0.25", "--tap"]
    with tap(Service(200, b"<?xml?><VOTABLE>too many questions</VOTABLE>")) as url:
        assert main([*words, url]) == 4
    monkeypatch.setattr("dpu.tap.MOST", 3)
    with tap(Service()) as url:
        assert main([*words, url]) == 2
    said = capsys.readouterr().err
    assert "too many questions" in said
    assert "GAIA_DR3 has 3 stars there or more: ask with a smaller radius" in said
    assert ingesting.ingested == []


@pytest.mark.usefixtures("ingesting")
def test_without_a_network_it_is_said_what_to_do(capsys):
    with tap(Service()) as url:
        pass
    assert main(["ingest-catalogue", "--from", "gaia", "--around", "1", "2", "0.1", "--tap", url]) == 4
    said = capsys.readouterr().err
    assert "is there a network?" in said
    assert "awe ingest-catalogue FILE --name GAIA_DR3" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "gaia"], "--from SURVEY takes no files, and --around RA DEC RADIUS"),
        (["stars.csv"], "files are needed with --name NAME, or --from SURVEY"),
        (["--from", "gaia", "--around", "1", "2", "far"], "--around 1 2 far: three numbers are needed"),
        (["--from", "gaia", "--around", "1", "2", "50"], "the radius at most 5 degrees"),
        (["--from", "gaia", "--around", "1", "2", "1", "--tap", "file:///etc"], "must be the http or https URL"),
    ],
)
def test_a_question_that_makes_no_sense_is_used_wrongly(ingesting, capsys, words, message):
    assert main(["ingest-catalogue", *words]) == 2
    assert message in capsys.readouterr().err
    assert ingesting.ingested == []


def test_what_comes_is_a_list_that_the_archive_reads(tmp_path):
    (tmp_path / "gaia.csv").write_bytes(GAIA)
    table = read(tmp_path / "gaia.csv", {})
    assert set(table.dtype.names) >= {"RA", "DEC", "PMRA", "PMDEC", "EPOCH", "PHOT_G_MEAN_MAG"}
    assert set(GAIA.split(b"\n")[0].decode().split(",")) == set(SURVEYS["gaia"].columns)


def test_a_question_names_each_column_as_it_is_to_be_called():
    query = SURVEYS["2mass"].query(Cone(10.0, -5.0, 0.5))
    assert query.startswith("SELECT TOP 1000000 RAJ2000 AS ra, DEJ2000 AS dec, Jmag AS jmag")
    assert "POINT('ICRS', RAJ2000, DEJ2000), CIRCLE('ICRS', 10.0, -5.0, 0.5)" in query
