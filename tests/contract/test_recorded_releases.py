"""What every release has written is understood, and what it said is answered as it was then."""

import gzip
import json
from pathlib import Path

import pytest

from dpu_api.v1 import job_pb2
from recorded import catalogue, journal, wire

RELEASES = sorted(folder for folder in (Path(__file__).parents[1] / "recorded").iterdir() if folder.name[0].isdigit())


def same_as_told(module, release, folder):
    """Hold what a file tells now to what it told then; what has come since may be told as well."""
    name = module.__name__.rpartition(".")[2]
    file = folder / f"{name}.sqlite"
    file.write_bytes(gzip.decompress((release / f"{name}.sqlite.gz").read_bytes()))
    now = json.loads(json.dumps(module.told(file)))
    assert list(lacking(json.loads((release / f"{name}.json").read_text()), now)) == []


def lacking(then, now, path=""):
    """Yield where `now` does not say what `then` said."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key, value in then.items():
            yield from lacking(value, now.get(key), f"{path}.{key}") if key in now else [f"{path}.{key} is gone"]
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for number, pair in enumerate(zip(then, now, strict=True)):
            yield from lacking(*pair, f"{path}[{number}]")
    elif then != now:
        yield f"{path} is {now!r}, not {then!r}"


def test_there_is_a_release():
    assert RELEASES


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_a_journal_is_replayed_as_it_was_meant(release, tmp_path):
    same_as_told(journal, release, tmp_path)


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_a_catalogue_is_brought_up_to_date_and_tells_the_same(release, tmp_path):
    same_as_told(catalogue, release, tmp_path)


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
async def test_callers_of_then_are_answered_as_they_were(release, tmp_path_factory):
    entries = wire.read(release / "wire.jsonl.gz")
    async with wire.house(tmp_path_factory.mktemp("h")) as address:
        assert await wire.replay(entries, address) == []


@pytest.mark.parametrize("module", [journal, catalogue], ids=["journal", "catalogue"])
def test_what_is_recorded_now_can_be_held_to_later(module, tmp_path):
    module.record(tmp_path / "now.sqlite")
    told = module.told(tmp_path / "now.sqlite")
    assert json.loads(json.dumps(told)) == json.loads(json.dumps(module.told(tmp_path / "now.sqlite")))
    changed = json.loads(json.dumps(told)) | {"more": 1}
    assert list(lacking({"more": 2}, changed)) == [".more is 1, not 2"]


def test_another_answer_is_noticed():
    then = job_pb2.Job(id=7, user="anna", options={"entries": {"chip": job_pb2.Value(string_value="ccd50")}})
    now = job_pb2.Job(id=8, project="kids", options={"entries": {"chip": job_pb2.Value(string_value="ccd51")}})
    assert list(wire._compared(then, now, "", {})) == [
        "id is 8, not 7",
        "options.entries['chip'].string_value is 'ccd51', not 'ccd50'",
        "user is '', not 'anna'",
    ]
