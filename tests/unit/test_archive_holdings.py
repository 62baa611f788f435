"""Files and records in step, and what becomes of products that nobody publishes."""

import asyncio
import hashlib
from datetime import timedelta
from types import SimpleNamespace

import pytest

from dpud.archive.catalogue import MemoryCatalogue
from dpud.archive.holdings import Holdings
from dpud.archive.products import LIFETIME, Products
from dpud.archive.reception import Received, Reception
from dpud.archive.records import Attempt, Query, View
from dpud.archive.store import MemoryStore
from fakes_archive import FIRST, NOW, a_product, digest


@pytest.fixture
def archive(tmp_path):
    store, catalogue = MemoryStore(), MemoryCatalogue()
    holdings = Holdings(store, catalogue)
    time = SimpleNamespace(now=NOW)
    products = Products(
        ledger=catalogue,
        memory=catalogue,
        holdings=holdings,
        reception=Reception(tmp_path / "incoming"),
        clock=lambda: time.now,
        new_id=iter(f"{number:032x}" for number in range(100)).__next__,
    )
    return SimpleNamespace(store=store, catalogue=catalogue, holdings=holdings, products=products, time=time)


@pytest.fixture
def a_file(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"pixels")
    return Received(file, hashlib.sha256(b"pixels").hexdigest(), 6)


def product(file, attempt=FIRST, number=0):
    return a_product(attempt, number, digest=file.digest, size=file.size)


async def test_a_file_whose_record_fails_goes_again(archive, a_file):
    def fail():
        raise RuntimeError("no record")

    with pytest.raises(RuntimeError, match="no record"):
        await archive.holdings.keep({a_file.digest: a_file.file}, fail)
    assert list(archive.store.digests()) == []


async def test_a_file_on_its_way_in_is_not_removed(archive, a_file):
    def meanwhile():
        asyncio.run_coroutine_threadsafe(archive.holdings.drop([a_file.digest]), loop).result(5)
        return list(archive.store.digests())

    loop = asyncio.get_running_loop()
    assert await archive.holdings.keep({a_file.digest: a_file.file}, meanwhile) == [a_file.digest]
    await archive.holdings.drop([a_file.digest])
    assert list(archive.store.digests()) == []


async def test_whoever_goes_away_does_not_break_a_record_off(archive, a_file):
    reached, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly():
        loop.call_soon_threadsafe(reached.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(5)
        return archive.catalogue.stage(product(a_file))

    keeping = asyncio.create_task(archive.holdings.keep({a_file.digest: a_file.file}, slowly))
    await reached.wait()
    keeping.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert archive.catalogue.unnamed([a_file.digest]) == set()
    assert list(archive.store.digests()) == [a_file.digest]


async def test_the_sweep_removes_what_no_record_names(archive, a_file, tmp_path):
    await archive.products.stage(product(a_file), a_file)
    (tmp_path / "orphan").write_bytes(b"orphan")
    orphan = hashlib.sha256(b"orphan").hexdigest()
    archive.store.put(tmp_path / "orphan", orphan)
    assert await archive.holdings.sweep() == 1
    assert await archive.holdings.sweep() == 0
    assert list(archive.store.digests()) == [a_file.digest]


async def test_what_nobody_published_goes_after_a_week(archive, a_file):
    kept = await archive.products.stage(product(a_file, Attempt(1, 1, 1)), a_file)
    await archive.products.publish(Attempt(1, 1, 1), commit=False)
    archive.time.now = NOW + LIFETIME
    assert await archive.products.expire() == 0
    archive.time.now = NOW + LIFETIME + timedelta(seconds=1)
    assert await archive.products.expire() == 1
    assert archive.catalogue.find(View("KIDS", 1), [kept.frame.id]) == []
    assert list(archive.store.digests()) == []


async def test_a_newer_attempt_takes_the_files_of_the_older_one_with_it(archive, a_file, tmp_path):
    await archive.products.stage(product(a_file, Attempt(1, 1, 1)), a_file)
    (tmp_path / "other").write_bytes(b"other pixels")
    other = Received(tmp_path / "other", hashlib.sha256(b"other pixels").hexdigest(), 12)
    await archive.products.stage(product(other, Attempt(1, 1, 2)), other)
    assert list(archive.store.digests()) == [other.digest]


async def test_identifier_name_and_date_are_the_archives(archive):
    record = a_product(digest="", size=0, id="mine", file_name="mine.fits", creation_date=NOW - timedelta(days=1))
    staged = (await archive.products.stage(record, None)).frame
    assert (staged.id, staged.creation_date) == (f"{0:032x}", NOW)
    assert staged.file_name.endswith(f"-{staged.id}")
    assert archive.catalogue.select(Query(view=View("KIDS", 1), only_job=True), limit=9)[0].frame == staged
    assert digest("mine") not in archive.store.digests()
