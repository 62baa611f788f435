import asyncio

import pytest

from dpud.worker.shelf import Shelf


class Maker:
    """Counts what is made, and how often."""

    def __init__(self, size: int = 10) -> None:
        self.size = size
        self.made = 0

    async def __call__(self) -> int:
        self.made += 1
        await asyncio.sleep(0)
        return self.size


async def test_a_thing_is_made_once_for_all_who_ask_together() -> None:
    make, shelf = Maker(), Shelf(100, lambda _: None)

    async def use() -> None:
        async with shelf.holding("a", make):
            await asyncio.sleep(0)

    await asyncio.gather(use(), use(), use())
    assert (make.made, shelf.keys) == (1, ["a"])


async def test_what_was_unused_longest_goes_first() -> None:
    removed: list[str] = []
    shelf = Shelf(30, removed.append, there=[("old", 10), ("older", 10)])
    for key in ("old", "new", "newer"):
        async with shelf.holding(key, Maker()):
            pass
    assert (removed, shelf.keys) == (["older"], ["old", "new", "newer"])


async def test_what_is_used_stays_even_when_there_is_too_much() -> None:
    removed: list[str] = []
    shelf = Shelf(15, removed.append)
    async with shelf.holding("a", Maker()), shelf.holding("b", Maker()):
        assert removed == []
    # Of the two, this one was let go first.
    assert removed == ["b"]


async def test_what_is_there_can_be_kept_without_making_it() -> None:
    removed: list[str] = []
    shelf = Shelf(15, removed.append, there=[("a", 10)])
    assert ("a" in shelf, "b" in shelf) == (True, False)
    with shelf.keeping("a"):
        async with shelf.holding("b", Maker()):
            assert removed == []
        assert removed == ["b"]
    assert shelf.keys == ["a"]


async def test_what_was_kept_was_used() -> None:
    removed: list[str] = []
    shelf = Shelf(25, removed.append, there=[("old", 10), ("older", 10)])
    with shelf.keeping("old"):
        pass
    async with shelf.holding("new", Maker()):
        assert removed == ["older"]


async def test_what_could_not_be_made_is_made_anew() -> None:
    shelf = Shelf(15, lambda _: None)

    async def fail() -> int:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        async with shelf.holding("a", fail):
            pass
    async with shelf.holding("a", Maker()):
        assert shelf.keys == ["a"]


def test_what_an_earlier_run_left_is_bounded_too() -> None:
    removed: list[str] = []
    Shelf(15, removed.append, there=[("a", 10), ("b", 10)])
    assert removed == ["a"]
