"""Which attempt counts: every word, at every state."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpu.errors import Conflict, StaleLease
from dpud.archive.fence import Fence, State, discarded, published, staged
from dpud.archive.records import Attempt

FIRST, SECOND, THIRD = (Attempt(1, 1, number) for number in (1, 2, 3))
STAGING, KEPT, PUBLISHED, DISCARDED = State


def outcome(word, fence, attempt, **how):
    """Return the fence after a word, or the error that refuses it."""
    try:
        return word(fence, attempt, **how)
    except (StaleLease, Conflict) as error:
        return type(error)


@pytest.mark.parametrize(
    ("fence", "expected"),
    [
        (None, Fence(SECOND, STAGING)),
        (Fence(FIRST, STAGING), Fence(SECOND, STAGING)),
        (Fence(FIRST, DISCARDED), Fence(SECOND, STAGING)),
        (Fence(FIRST, PUBLISHED), StaleLease),
        (Fence(FIRST, KEPT), StaleLease),
        (Fence(SECOND, STAGING), Fence(SECOND, STAGING)),
        (Fence(SECOND, PUBLISHED), StaleLease),
        (Fence(SECOND, KEPT), StaleLease),
        (Fence(SECOND, DISCARDED), StaleLease),
        (Fence(THIRD, STAGING), StaleLease),
        (Fence(THIRD, DISCARDED), StaleLease),
    ],
)
def test_staging_needs_the_newest_attempt(fence, expected):
    assert outcome(staged, fence, SECOND) == expected


@pytest.mark.parametrize(
    ("fence", "expected"),
    [
        (None, Fence(SECOND, PUBLISHED)),
        (Fence(FIRST, STAGING), Fence(SECOND, PUBLISHED)),
        (Fence(FIRST, DISCARDED), Fence(SECOND, PUBLISHED)),
        (Fence(FIRST, PUBLISHED), Conflict),
        (Fence(SECOND, STAGING), Fence(SECOND, PUBLISHED)),
        (Fence(SECOND, PUBLISHED), Fence(SECOND, PUBLISHED)),
        (Fence(SECOND, KEPT), Conflict),
        (Fence(SECOND, DISCARDED), Conflict),
        (Fence(THIRD, STAGING), Conflict),
    ],
)
def test_publishing_settles_one_attempt(fence, expected):
    assert outcome(published, fence, SECOND, commit=True) == expected


@pytest.mark.parametrize(
    ("fence", "expected"),
    [
        (None, Fence(SECOND, DISCARDED)),
        (Fence(FIRST, STAGING), Fence(SECOND, DISCARDED)),
        (Fence(FIRST, PUBLISHED), Fence(FIRST, PUBLISHED)),
        (Fence(SECOND, STAGING), Fence(SECOND, DISCARDED)),
        (Fence(SECOND, DISCARDED), Fence(SECOND, DISCARDED)),
        (Fence(SECOND, PUBLISHED), Conflict),
        (Fence(SECOND, KEPT), Conflict),
        (Fence(THIRD, STAGING), Fence(THIRD, STAGING)),
        (Fence(THIRD, PUBLISHED), Fence(THIRD, PUBLISHED)),
    ],
)
def test_discarding_moves_no_newer_attempt(fence, expected):
    assert outcome(discarded, fence, SECOND) == expected


WORDS = st.tuples(st.sampled_from(["stage", "publish", "keep", "discard"]), st.sampled_from([FIRST, SECOND, THIRD]))


@given(st.lists(WORDS, max_size=12))
def test_at_most_one_attempt_is_ever_settled_well(words):
    fence, well = None, set()
    for word, attempt in words:
        call = {"stage": staged, "discard": discarded}.get(word)
        how = {} if call else {"commit": word == "publish"}
        after = outcome(call or published, fence, attempt, **how)
        if isinstance(after, Fence):
            assert fence is None or after.newest.attempt >= fence.newest.attempt
            fence = after
            if fence.state in {PUBLISHED, KEPT}:
                well.add(fence)
    assert len(well) <= 1
