import pytest

from dpud.logs.record import (
    Deleted,
    JobClosed,
    Lines,
    Opened,
    Owned,
    TaskClosed,
    TaskEnded,
    TaskLabelled,
    decode,
    encode,
    weight,
)

RECORDS = [
    Opened(1, "KIDS ü"),
    Lines(2, 3, 1, 2**40, 17, b"\x00\xff anything"),
    TaskClosed(3, 0, 2, 3, -1, 30_000_000),
    TaskEnded(4, 0, 2, 3, 12, complete=True, missing=""),
    TaskEnded(5, 0, 2, 4, -1, complete=False, missing="the worker was lost"),
    JobClosed(6, 5),
    TaskLabelled(7, 3, "ESO_CCD_#77"),
    Owned(8, "anna"),
    Deleted(9, "olga"),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_from_its_bytes(record):
    assert decode(encode(record)) == record


def test_only_lines_and_ends_of_tasks_move_an_offset():
    assert [weight(record) for record in RECORDS] == [0, 17, 0, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("body", [b"", b"\x09rest"])
def test_a_record_of_a_newer_version_is_named_as_such(body):
    with pytest.raises(ValueError, match="a newer version wrote it"):
        decode(body)
