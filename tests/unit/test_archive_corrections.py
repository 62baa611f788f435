"""Who may say what of a frame, and who may delete it."""

from datetime import timedelta

import pytest

from dpu.errors import BadOption, NotAllowed
from dpud.archive.catalogue import MemoryCatalogue
from dpud.archive.coldlist import MemoryColdList
from dpud.archive.corrections import Corrections
from dpud.archive.holdings import Holdings
from dpud.archive.records import Level
from dpud.archive.store import MemoryStore
from dpud.hosting.caller import Caller, Role
from fakes_archive import DATE_OBS, FIRST, a_product, a_raw

OWNER = Caller(user="jdoe", project="KIDS", roles=frozenset({Role.USER}))
MEMBER = Caller(user="anna", project="KIDS", roles=frozenset({Role.USER}))
ELSEWHERE = Caller(user="jdoe", project="VST", roles=frozenset({Role.USER, Role.OPERATOR}))
OPERATOR = Caller(user="olga", project="KIDS", roles=frozenset({Role.OPERATOR}))


@pytest.fixture
def catalogue():
    made = MemoryCatalogue()
    made.stage(a_product())
    made.publish(FIRST, commit=True)
    return made


@pytest.fixture
def product(catalogue):
    return catalogue._records[0]


def over(catalogue):
    cold = MemoryColdList(catalogue)
    holdings = Holdings(MemoryStore(), catalogue, cold=MemoryStore(), cold_list=cold)
    return Corrections(amendments=catalogue, holdings=holdings)


def say(catalogue, caller, record, *, is_valid=None, timestamp_end=None):
    return over(catalogue).validity(caller, record, is_valid=is_valid, timestamp_end=timestamp_end)


@pytest.mark.parametrize("caller", [OWNER, OPERATOR])
def test_its_maker_and_operators_set_a_product_invalid_and_valid_again(catalogue, product, caller):
    assert not say(catalogue, caller, product, is_valid=False).frame.is_valid
    assert say(catalogue, caller, product, is_valid=True).frame.is_valid


def test_a_window_ends_when_it_is_said(catalogue, product):
    end = DATE_OBS + timedelta(hours=2)
    changed = say(catalogue, OWNER, product, timestamp_end=end)
    assert (changed.frame.timestamp_end, changed.frame.is_valid) == (end, True)


def test_another_member_may_not(catalogue, product):
    with pytest.raises(NotAllowed, match="is of jdoe in project KIDS: only jdoe or an operator may"):
        say(catalogue, MEMBER, product, is_valid=False)
    assert catalogue._records == [product]


def test_a_raw_frame_stays_what_it_is(catalogue):
    with pytest.raises(NotAllowed, match="is a raw frame"):
        say(catalogue, OPERATOR, a_raw(), is_valid=False)


def test_a_window_does_not_end_before_it_begins(catalogue, product):
    with pytest.raises(BadOption, match="is not after its start"):
        say(catalogue, OWNER, product, timestamp_end=product.frame.timestamp_start)
    assert catalogue._records == [product]


def test_nothing_asked_is_refused(catalogue, product):
    with pytest.raises(BadOption, match="give is_valid, timestamp_end or both"):
        say(catalogue, OWNER, product)


@pytest.mark.parametrize("caller", [OWNER, OPERATOR])
def test_its_maker_and_operators_say_how_far_a_frame_is_seen(catalogue, product, caller):
    for level in Level:
        assert over(catalogue).privileges(caller, product, int(level)).privileges is level


@pytest.mark.parametrize("caller", [MEMBER, ELSEWHERE])
def test_others_do_not_say_how_far_it_is_seen(catalogue, product, caller):
    with pytest.raises(NotAllowed, match="is of jdoe in project KIDS: only jdoe or an operator may"):
        over(catalogue).privileges(caller, product, 3)
    assert catalogue._records == [product]


@pytest.mark.parametrize("level", [0, 6, -1])
def test_there_are_five_levels(catalogue, product, level):
    with pytest.raises(BadOption, match=f"privileges={level}: must be 1"):
        over(catalogue).privileges(OWNER, product, level)


async def test_a_maker_deletes_what_others_do_not_count_on(catalogue, product):
    corrections = over(catalogue)
    shown = corrections.privileges(OWNER, product, 3)
    with pytest.raises(NotAllowed, match=r"is of level 3, .* context\.set_privileges"):
        await corrections.delete(OWNER, shown)
    await corrections.delete(OWNER, corrections.privileges(OWNER, product, 1))
    assert catalogue._records == []


@pytest.mark.parametrize("caller", [MEMBER, OPERATOR, ELSEWHERE])
async def test_nobody_else_deletes_it(catalogue, product, caller):
    with pytest.raises(NotAllowed, match="is a product of jdoe in project KIDS"):
        await over(catalogue).delete(caller, product)
    assert catalogue._records == [product]


async def test_nobody_deletes_raw_frames(catalogue):
    with pytest.raises(NotAllowed, match="is a raw frame: only products are deleted"):
        await over(catalogue).delete(OWNER, a_raw())
