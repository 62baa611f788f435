"""What was written ahead is there after a crash, whatever of the files themselves came to the disk."""

import os

import pytest

from dpud.logs.ahead import FULL_FILES, Ahead, Piece
from dpud.logs.record import JobClosed, Lines, Opened
from dpud.logs.store_files import FileLogStore


def test_pieces_that_never_came_to_their_files_are_written_at_the_next_start(tmp_path):
    one, other = tmp_path / "7" / "a.log", tmp_path / "8" / "b.log"
    Ahead(tmp_path).keep([Piece(one, 0, b"first "), Piece(other, 0, b"another"), Piece(one, 6, b"second")])
    other.unlink()
    other.parent.rmdir()
    os.truncate(one, 3)
    Ahead(tmp_path)
    assert (one.read_bytes(), other.read_bytes()) == (b"first second", b"another")
    assert [(tmp_path / f"ahead.{number}").stat().st_size for number in (0, 1)] == [0, 0]


@pytest.mark.parametrize("lost", [1, 10, 30])
def test_a_record_that_was_cut_short_is_passed_over(tmp_path, lost):
    ahead = Ahead(tmp_path)
    ahead.keep([Piece(tmp_path / "7" / "a.log", 0, b"first ")])
    whole = (tmp_path / "ahead.0").stat().st_size
    ahead.keep([Piece(tmp_path / "7" / "a.log", 6, b"second")])
    os.truncate(tmp_path / "ahead.0", 2 * whole - lost)
    os.truncate(tmp_path / "7" / "a.log", 0)
    Ahead(tmp_path)
    assert (tmp_path / "7" / "a.log").read_bytes() == b"first "


def test_pieces_that_could_not_all_be_written_do_not_come_back(tmp_path):
    ahead = Ahead(tmp_path)
    ahead.keep([Piece(tmp_path / "7" / "a.log", 0, b"kept")])
    (tmp_path / "8").touch()
    with pytest.raises(NotADirectoryError):
        ahead.keep([Piece(tmp_path / "7" / "a.log", 4, b"refused"), Piece(tmp_path / "8" / "b.log", 0, b"refused")])
    os.truncate(tmp_path / "7" / "a.log", 4)
    Ahead(tmp_path)
    assert (tmp_path / "7" / "a.log").read_bytes() == b"kept"


def test_what_is_settled_is_not_written_again_and_the_other_file_goes_on(tmp_path):
    ahead = Ahead(tmp_path)
    ahead.keep([Piece(tmp_path / "7" / "a.log", 0, b"settled")])
    ahead.turn()
    ahead.keep([Piece(tmp_path / "8" / "b.log", 0, b"goes on")])
    ahead.settle()
    (tmp_path / "7" / "a.log").unlink()
    (tmp_path / "8" / "b.log").unlink()
    Ahead(tmp_path)
    assert not (tmp_path / "7" / "a.log").exists()
    assert (tmp_path / "8" / "b.log").read_bytes() == b"goes on"


def test_many_files_make_it_full(tmp_path):
    ahead = Ahead(tmp_path)
    ahead.keep([Piece(tmp_path / "7" / f"{number}.log", 0, b".") for number in range(FULL_FILES)])
    assert not ahead.is_full
    ahead.keep([Piece(tmp_path / "7" / "last.log", 0, b".")])
    assert ahead.is_full


async def test_a_killed_store_has_all_that_it_took_and_nothing_that_it_removed(tmp_path):
    killed = FileLogStore(tmp_path)
    records = [Opened(1, "kids"), Lines(1, 0, 1, 0, 1, b"a line"), JobClosed(2, 4)]
    for job in range(1, 400):
        await killed.append({job: records})
    await killed.remove(5)
    left = FileLogStore(tmp_path)
    found = []
    await left.replay(399, found.append)
    assert found == records
    assert sorted(await left.jobs()) == [job for job in range(1, 400) if job != 5]
    left.close()
    killed.close()
