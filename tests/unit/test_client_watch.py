"""Which files of a watched folder are whole, and are brought in."""

import io
import os
from pathlib import Path

import pytest

from dpu.errors import StorageFull, Unreachable, UsageError
from dpu.ingest import Outcome
from dpu.report import Reporter
from dpu.watch import Folders, watch


def write(path: Path, content: bytes, second: int = 1) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (second, second))
    return path


def test_a_file_is_whole_when_it_stays_as_it_is(tmp_path: Path) -> None:
    folders = Folders([tmp_path])
    path = write(tmp_path / "deep" / "r.fits", b"half")
    write(tmp_path / "notes.txt", b"no exposure")
    assert folders.whole() == []
    write(path, b"half and half")
    assert folders.whole() == []
    assert folders.whole() == [path]


def test_a_file_is_brought_in_once_and_again_when_it_changes(tmp_path: Path) -> None:
    folders = Folders([tmp_path])
    path = write(tmp_path / "r.fits", b"first")
    assert (folders.whole(), folders.whole()) == ([], [path])
    assert folders.whole() == [path], "nobody has dealt with it"
    folders.settle(path)
    assert folders.whole() == []
    write(path, b"other", 2)
    assert (folders.whole(), folders.whole()) == ([], [path])


def test_a_file_that_vanishes_is_no_error(tmp_path: Path) -> None:
    folders = Folders([tmp_path])
    path = write(tmp_path / "r.fits", b"first")
    folders.whole()
    path.unlink()
    assert folders.whole() == []
    folders.settle(path)
    (tmp_path / "dangling.fits").symlink_to(tmp_path / "nowhere")
    assert folders.whole() == []


def test_only_folders_are_watched(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"r.fits' is no folder: only folders are watched"):
        Folders([write(tmp_path / "r.fits", b"first")])


class Link:
    """An archive that is away, then full, then takes what is good."""

    is_local = True

    def __init__(self) -> None:
        self.troubles = [Unreachable("the archive is away"), StorageFull("the disk is full")]

    def attempt(self, _call: object) -> object:
        if self.troubles:
            raise self.troubles.pop(0)
        return type("Answer", (), {"frames": [1], "already": False})()

    def close(self) -> None:
        pass


def test_an_archive_that_is_away_or_full_is_waited_for(tmp_path: Path) -> None:
    out, turns = io.StringIO(), iter(range(10))

    def sleep(_seconds: float) -> None:
        if next(turns) == 5:
            raise KeyboardInterrupt

    write(tmp_path / "r.fits", b"first")
    assert watch(Link(), [tmp_path], Reporter(out=out), sleep=sleep) == 0  # type: ignore[arg-type]
    said = [line.split(" - ", 1)[1] for line in out.getvalue().splitlines()]
    assert said == [
        f"Watching {tmp_path}; Ctrl-C ends it",
        "the archive is away (trying again)",
        "the disk is full (trying again)",
        "r.fits: taken",
        "1 taken, 0 already there, 0 refused",
    ]


def test_a_refused_file_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, turns = io.StringIO(), iter(range(10))

    def sleep(_seconds: float) -> None:
        if next(turns) == 5:
            raise KeyboardInterrupt

    def refuse(_link: object, path: Path, _says: object) -> Outcome:
        return Outcome(path=path, reason="is empty")

    monkeypatch.setattr("dpu.ingest.take", refuse)
    write(tmp_path / "r.fits", b"")
    assert watch(Link(), [tmp_path], Reporter(out=out), sleep=sleep) == 1  # type: ignore[arg-type]
    assert out.getvalue().count("r.fits: refused: is empty") == 1
