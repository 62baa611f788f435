"""A folder of 10,000 mixed files: the good ones go in, each bad one is named with its reason, and again is harmless."""

import re
from collections import Counter

import pytest

from dpu.ingest import find_files, ingest
from fakes_archive import files_of
from fakes_archive_bad import BAD, door_of, write_good

FILES = 10_000
#: One file in so many is bad, and one a copy of the file before.
BAD_ONE, COPY = 5, 10


@pytest.fixture
def folder(tmp_path):
    """Give the folder, and what is wrong with each of its bad files by name."""
    ways, folder = list(BAD), tmp_path / "mixed"
    wrong = {}
    folder.mkdir()
    for number in range(FILES):
        path = folder / f"r{number:05d}.fits"
        if number % BAD_ONE == BAD_ONE - 1:
            wrong[path.name] = ways[number // BAD_ONE % len(ways)]
            BAD[wrong[path.name]].write(path, number)
        else:
            write_good(path, number - 1 if number % COPY == 1 else number)
    return folder, wrong


@pytest.mark.timeout(3600)
def test_a_folder_of_ten_thousand_mixed_files(folder, tmp_path):
    night, wrong = folder
    files = find_files([night])
    assert len(files) == FILES
    good = FILES - len(wrong)
    with door_of(tmp_path / "archive") as door:
        settled = Counter()
        summary = ingest(door, files, lambda outcome: settled.update([bool(outcome.reason)]))
        assert settled == {False: good, True: len(wrong)}
        assert {outcome.path.name for outcome in summary.refused} == wrong.keys()
        for outcome in summary.refused:
            assert re.fullmatch(BAD[wrong[outcome.path.name]].reason, outcome.reason), outcome
        copies = FILES // COPY
        assert summary.lines()[0] == (
            f"{FILES} files, {good - copies} new frames, {copies} already there, {len(wrong)} refused"
        )
        frames = door.frames()
        assert len(frames) == good - copies
        assert files_of(door.state) == {frame.digest for frame in frames}
        again = ingest(door, files[:1000], lambda _: None)
        assert again.lines()[0] == "1000 files, 0 new frames, 800 already there, 200 refused"
