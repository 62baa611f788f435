"""Packs of records, in memory: what goes in comes out, and damage is named."""

from dataclasses import dataclass
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpu.errors import InternalError
from dpud.logs.pack import BLOCK, Pack, PackWriter, mergeable
from dpud.logs.record import JobClosed, Lines, Opened, weight
from dpud.logs.stretch import everything, look


@dataclass
class Kept:
    data: bytes

    def __str__(self):
        return "the pack"

    @property
    def size(self):
        return len(self.data)

    def read(self, start, stop):
        return self.data[start:stop]


def packed(records, start=0):
    kept = BytesIO()
    writer = PackWriter(kept.write, start)
    for record in records:
        writer.add(record)
    writer.close()
    return Kept(kept.getvalue())


def lines(first, count=1, size=10):
    return Lines(1, 0, 1, first, count, b"x" * size)


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(0, 90))
def test_records_come_back_from_any_offset(counts, offset):
    records, at = [], 7
    for count in counts:
        records.append(lines(at, count, BLOCK // 3) if count else Opened(1, "KIDS"))
        at += count
    pack = Pack.open(packed(records, 7))
    assert (pack.start, pack.end) == (7, at)
    assert [record for record, _ in everything(pack)] == records
    begins = [7 + sum(weight(each) for each in records[:number]) for number in range(len(records))]
    seen = [r for r, begin in zip(records, begins, strict=True) if weight(r) and begin + weight(r) > offset]
    assert [each.record for each in look(pack, offset, 1 << 40)] == seen


def test_an_empty_pack_is_one():
    pack = Pack.open(packed([], 5))
    assert (pack.start, pack.end, list(everything(pack))) == (5, 5, [])


@pytest.mark.parametrize("place", [0, 30, -1, -40])
def test_a_damaged_byte_is_named(place):
    whole = packed([lines(0, 5, 500), JobClosed(1, 4)])
    damaged = bytearray(whole.data)
    damaged[place] ^= 0x55
    with pytest.raises(InternalError, match=r"the pack.* is damaged .*restore it from a backup"):
        list(everything(Pack.open(Kept(bytes(damaged)))))


@pytest.mark.parametrize("length", [0, 10, 60])
def test_what_is_cut_short_is_no_pack(length):
    with pytest.raises(InternalError, match="is damaged"):
        Pack.open(Kept(packed([lines(0, 5, 500)]).data[:length]))


def test_neighbours_are_joined_up_to_a_limit():
    assert [list(run) for run in mergeable([10, 10, 90, 5, 5, 5, 200, 1], 100)] == [[0, 1], [2, 3, 4]]
    assert list(mergeable([], 100)) == []
    assert list(mergeable([100, 100], 100)) == []
