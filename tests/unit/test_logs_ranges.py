from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dpud.logs.ranges import Ranges

RANGE = st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(RANGE, max_size=12), RANGE)
def test_ranges_behave_as_a_set_of_numbers(added, asked):
    ranges, members = Ranges(), set()
    for start, stop in added:
        ranges.add(start, stop)
        members |= set(range(start, stop))
    holes = {number for start, stop in ranges.missing(*asked) for number in range(start, stop)}
    assert holes == set(range(*asked)) - members
    assert len(ranges) == len(members)
    assert ranges.stop == max(members, default=-1) + 1


@given(st.lists(RANGE, max_size=12))
def test_ranges_are_sorted_apart_and_not_touching(added):
    ranges = Ranges()
    for start, stop in added:
        ranges.add(start, stop)
    runs = list(ranges)
    assert all(start < stop for start, stop in runs)
    assert all(before[1] < after[0] for before, after in pairwise(runs))


def test_what_is_missing_is_named_from_the_lowest():
    ranges = Ranges()
    ranges.add(10, 20)
    ranges.add(30, 40)
    assert ranges.missing(0, 50) == [(0, 10), (20, 30), (40, 50)]
