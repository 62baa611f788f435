"""What came while a scheduler was busy is heard together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from dpud.scheduler.commands import Renew, Report, WorkCall
from dpud.scheduler.hearing import MOST, gathered
from dpud.scheduler.model import Ref

Words = tuple[WorkCall, int]
LEASE = "3f"


def words(number: int, *, held: bool = False) -> Words:
    """Return what tells the end of one task, with its number as room and as what was heard."""
    report = Report(ref=Ref(1, number, 1), token=LEASE, failure=None)
    renewal = Renew(session="session", held={Ref(1, 99, 1): LEASE} if held else {})
    call = WorkCall(reports=(report,), plans=(), renewal=renewal, room=number, memory_mib=1, wait_s=1.0, draining=False)
    return call, number


async def said(*each: Words) -> AsyncIterator[Words]:
    for one in each:
        yield one


def told(one: Words) -> list[int]:
    return [report.ref.task for report in one[0].reports]


async def test_what_came_meanwhile_is_one_with_the_newest_room():
    async with aclosing(gathered(said(*map(words, range(5))))) as heard:
        first = await anext(heard)
        await asyncio.sleep(0)
        rest = [one async for one in heard]
    assert [told(first), *map(told, rest)] in ([[0], [1, 2, 3, 4]], [[0, 1, 2, 3, 4]])
    assert (rest or [first])[-1][0].room == 4
    assert (rest or [first])[-1][1] == 4


async def test_what_names_leases_stays_by_itself():
    each = [words(0), words(1, held=True), words(2), words(3)]
    assert [told(one) async for one in gathered(said(*each))] == [[0], [1], [2, 3]]


async def test_nothing_is_lost_of_more_than_may_wait():
    numbers = list(range(3 * MOST))
    heard = [told(one) async for one in gathered(said(*map(words, numbers)))]
    assert [number for one in heard for number in one] == numbers
    assert len(heard) < len(numbers)


async def test_a_stream_that_breaks_is_told_after_what_was_said():
    async def broken() -> AsyncIterator[Words]:
        yield words(0)
        raise ConnectionError("gone")

    async with aclosing(gathered(broken())) as heard:
        assert told(await anext(heard)) == [0]
        with pytest.raises(ConnectionError, match="gone"):
            await anext(heard)
