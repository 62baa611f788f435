"""A file that does not go to the cold tier leaves nothing there, whatever kept it."""

import asyncio
import hashlib
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from dpu.errors import BadFrame, Unreachable
from dpud.archive.catalogue import MemoryCatalogue
from dpud.archive.coldlist import MemoryColdList
from dpud.archive.holdings import Holdings
from dpud.archive.reception import Reception
from dpud.archive.records import Attempt
from dpud.archive.seldom import Seeker, Seldom
from dpud.archive.store import MemoryStore
from dpud.archive.tiers import Tiers
from dpud.archive.usage import Usage
from dpud.hosting.caller import Caller, Role
from fakes_archive import NOW, a_product

CONTENT = b"pixels, pixels, pixels"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
ATTEMPT = Attempt(7, 1, 1)
OPERATOR = Caller("olga", "KIDS", frozenset({Role.OPERATOR}))


class Press:
    """What packs files; what unpacks them says what it is told to."""

    def __init__(self, unpacked=DIGEST, *, meanwhile=lambda: None):
        self._unpacked = unpacked
        self._meanwhile = meanwhile

    async def pack(self, _file, _name, target):
        target.write_bytes(b"packed")
        return len(b"packed")

    async def unpack(self, _file, _name, _target):
        self._meanwhile()
        if isinstance(self._unpacked, Exception):
            raise self._unpacked
        return self._unpacked


@pytest.fixture
def archive(tmp_path):
    """Give an archive of one product, which nothing has packed yet."""
    catalogue, warm, cold = MemoryCatalogue(), MemoryStore(), MemoryStore()
    (tmp_path / "frame").write_bytes(CONTENT)
    warm.put(tmp_path / "frame", DIGEST)
    catalogue.stage(a_product(ATTEMPT, digest=DIGEST, size=len(CONTENT)))
    catalogue.publish(ATTEMPT, commit=True)
    cold_list = MemoryColdList(catalogue)
    holdings = Holdings(warm, catalogue, cold=cold, cold_list=cold_list)
    time = SimpleNamespace(now=datetime(2030, 1, 1, tzinfo=UTC))
    usage = Usage(cold_list, lambda: time.now)

    def tiers(press):
        return Tiers(
            catalogue=catalogue,
            holdings=holdings,
            splitter=press,
            reception=Reception(tmp_path / "incoming"),
            seeker=Seeker(catalogue, cold_list, cold_list),
            usage=usage,
        )

    return SimpleNamespace(
        catalogue=catalogue, warm=warm, cold=cold, cold_list=cold_list, usage=usage, tiers=tiers, time=time
    )


async def frozen(archive, press):
    return await frozen_by(archive.tiers(press))


async def frozen_by(tiers):
    meant = Seldom(came_before=NOW.replace(year=NOW.year + 1).date())
    (moved,) = [each async for each in tiers.freeze(OPERATOR, meant, trial=False)]
    return moved.reason


def where(archive):
    return [tier for tier in ("warm", "cold") if DIGEST in getattr(archive, tier).digests()]


async def test_what_comes_back_to_the_byte_lies_in_the_cold_tier_alone(archive):
    assert await frozen(archive, Press()) == ""
    assert where(archive) == ["cold"]
    assert archive.cold_list.frozen([DIGEST]) == {DIGEST}


@pytest.mark.parametrize(
    ("unpacked", "reason"),
    [
        ("0" * 64, "unpacked, it would not be what it was to the byte"),
        (BadFrame("taking it apart took longer than 300 s"), "taking it apart took longer than 300 s"),
    ],
)
async def test_what_does_not_come_back_stays_and_leaves_nothing_behind(archive, unpacked, reason):
    assert await frozen(archive, Press(unpacked)) == reason
    assert where(archive) == ["warm"]
    assert archive.cold_list.frozen([DIGEST]) == set()


async def test_what_somebody_reads_meanwhile_stays(archive):
    assert await frozen(archive, Press(meanwhile=lambda: archive.usage.note(DIGEST))) == "it is being read"
    assert where(archive) == ["warm"]


async def test_what_somebody_reads_for_hours_stays_until_it_is_read(archive):
    tiers = archive.tiers(Press())
    async with tiers.reading(DIGEST) as file:
        archive.time.now += timedelta(hours=5)
        assert await frozen_by(tiers) == "it is being read"
        assert file.read() == CONTENT
    assert await frozen_by(tiers) == ""
    assert where(archive) == ["cold"]


async def test_what_is_deleted_meanwhile_is_not_put_away(archive):
    def deleted():
        (record,) = archive.catalogue.everything()
        archive.catalogue.withdraw(record)

    assert await frozen(archive, Press(meanwhile=deleted)) == "it was deleted meanwhile"
    assert where(archive) == ["warm"]  # where whoever deleted it takes it from


async def test_a_failure_before_it_is_noted_leaves_nothing_behind(archive):
    with pytest.raises(Unreachable):
        await frozen(archive, Press(Unreachable("the bucket")))
    assert where(archive) == ["warm"]


async def test_a_failure_after_it_was_noted_leaves_it_where_it_is_noted(archive, monkeypatch):
    def gone(_digest):
        raise Unreachable("the bucket")

    monkeypatch.setattr(archive.warm, "remove", gone)
    with pytest.raises(Unreachable):
        await frozen(archive, Press())
    assert where(archive) == ["warm", "cold"]
    assert archive.cold_list.frozen([DIGEST]) == {DIGEST}


async def test_a_file_that_nobody_waits_for_any_more_is_closed_when_it_is_open(archive, monkeypatch):
    begun, going_on, closed = threading.Event(), threading.Event(), threading.Event()

    def slowly(_digest):
        begun.set()
        assert going_on.wait(60)
        return SimpleNamespace(close=closed.set)

    monkeypatch.setattr(archive.warm, "open", slowly)
    reading = archive.tiers(Press()).reading(DIGEST)
    waiting = asyncio.create_task(reading.__aenter__())
    assert await asyncio.to_thread(begun.wait, 60)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not closed.is_set()
    going_on.set()
    assert await asyncio.to_thread(closed.wait, 60)
