"""Files and records in step, and what becomes of products that nobody publishes."""

import asyncio
import hashlib
import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest

from dpud.archive.catalogue import MemoryCatalogue
from dpud.archive.coldlist import MemoryColdList
from dpud.archive.holdings import Holdings
from dpud.archive.products import LIFETIME, Products
from dpud.archive.reception import Received, Reception
from dpud.archive.records import Attempt, Query, View
from dpud.archive.store import MemoryStore
from fakes_archive import FIRST, NOW, a_product, a_raw, digest


@pytest.fixture
def archive(tmp_path):
    store, catalogue = MemoryStore(), MemoryCatalogue()
    cold, cold_list = MemoryStore(), MemoryColdList(catalogue)
    holdings = Holdings(store, catalogue, cold=cold, cold_list=cold_list)
    time = SimpleNamespace(now=NOW)
    products = Products(
        ledger=catalogue,
        memory=catalogue,
        holdings=holdings,
        reception=Reception(tmp_path / "incoming"),
        clock=lambda: time.now,
        new_id=iter(f"{number:032x}" for number in range(100)).__next__,
    )
    return SimpleNamespace(
        store=store,
        cold=cold,
        cold_list=cold_list,
        catalogue=catalogue,
        holdings=holdings,
        products=products,
        time=time,
    )


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


@pytest.mark.parametrize("files", [1, 2])
def test_what_a_stop_of_the_archive_breaks_into_has_both_its_files_and_its_record_or_neither(archive, tmp_path, files):
    came = {}
    for number in range(files):
        (tmp_path / str(number)).write_bytes(content := f"pixels {number}".encode())
        came[hashlib.sha256(content).hexdigest()] = tmp_path / str(number)
    reached, cancelled, recorded = threading.Event(), threading.Event(), []

    def slowly():
        reached.set()
        cancelled.wait(0.2)
        recorded.extend(
            archive.catalogue.stage(a_product(FIRST, number, digest=name, size=8)) for number, name in enumerate(came)
        )

    async def served():
        handler = asyncio.create_task(archive.holdings.keep(came, slowly))
        await asyncio.to_thread(reached.wait, 60)
        handler.cancel()
        # Here the loop ends, which cancels once more whatever there is.

    asyncio.run(served())
    assert len(recorded) == files
    assert set(archive.store.digests()) == set(came)


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


# --- two tiers


@pytest.fixture
def named(archive, a_file):
    """Give a file that a record names and that is in neither tier yet."""
    archive.catalogue.add([a_raw(digest=a_file.digest, size=a_file.size)])
    return a_file


def lie(archive, file, *stores, noted):
    """Leave a file as a killed process would."""
    for store in stores:
        file.file.write_bytes(b"pixels")
        store.put(file.file, file.digest)
    if noted:
        assert archive.cold_list.freeze(file.digest, 3)


def where(archive, digest):
    found = {"warm": archive.store, "cold": archive.cold}
    return [name for name, store in found.items() if digest in store.digests()]


@pytest.mark.parametrize(
    ("noted", "left"),
    [
        (False, "warm"),  # killed before it was noted as frozen, or after it was noted as thawed
        (True, "cold"),  # killed after it was noted as frozen, or before it was noted as thawed
    ],
)
async def test_of_a_file_in_both_tiers_the_sweep_leaves_what_is_noted(archive, named, noted, left):
    lie(archive, named, archive.store, archive.cold, noted=noted)
    assert await archive.holdings.sweep() == 0
    assert where(archive, named.digest) == [left]
    assert archive.cold_list.frozen([named.digest]) == ({named.digest} if noted else set())


async def test_a_frozen_file_of_which_an_older_catalogue_knows_nothing_is_noted(archive, named):
    lie(archive, named, archive.cold, noted=False)
    assert await archive.holdings.sweep() == 0
    assert where(archive, named.digest) == ["cold"]
    assert archive.cold_list.totals().cold == (1, 1, 6, 6)


async def test_a_note_of_an_older_catalogue_costs_no_warm_file(archive, named):
    lie(archive, named, archive.store, noted=True)
    assert await archive.holdings.sweep() == 0
    assert where(archive, named.digest) == ["warm"]
    assert archive.cold_list.frozen([named.digest]) == set()


async def test_a_frozen_file_that_no_record_names_is_swept(archive, a_file):
    lie(archive, a_file, archive.cold, noted=False)
    assert await archive.holdings.sweep() == 1
    assert where(archive, a_file.digest) == []


async def test_a_frozen_file_goes_with_its_last_record(archive, a_file):
    archive.catalogue.stage(product(a_file))
    lie(archive, a_file, archive.cold, noted=True)
    await archive.products.discard(FIRST)
    assert where(archive, a_file.digest) == []
    assert archive.cold_list.frozen([a_file.digest]) == set()
