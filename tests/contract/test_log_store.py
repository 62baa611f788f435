"""What every place for logs must do; the folder's own promises after that."""

import asyncio
import os
from contextlib import contextmanager

import pytest

import fakes_postgres
import fakes_s3
from dpu.errors import InternalError, StorageFull
from dpud.hosting.database import parse_url
from dpud.logs.bucket import Bucket
from dpud.logs.index import Index, engine_of
from dpud.logs.record import JobClosed, Lines, Opened, TaskEnded
from dpud.logs.store import MemoryLogStore, Placed
from dpud.logs.store_files import FileLogStore
from dpud.logs.store_s3 import S3LogStore
from dpud.logs.stretch import look
from fakes_disk import files_of_at_most

LOTS = 1 << 30


@pytest.fixture(scope="module")
def s3():
    pytest.importorskip("moto", reason="no moto[server]: no S3 for tests")
    with fakes_s3.running() as server:
        yield server


@pytest.fixture(scope="module")
def postgres():
    if (programs := fakes_postgres.programs()) is None:
        pytest.skip("no PostgreSQL server programs: initdb is neither on PATH nor in /usr/lib/postgresql")
    with fakes_postgres.running(programs) as server:
        yield server


@pytest.fixture(params=["memory", "files", "small segments", "S3, SQLite", "S3, PostgreSQL"])
def store(request, tmp_path):
    match request.param:
        case "memory":
            yield MemoryLogStore(lambda: 1.7e9)
        case "files":
            with closing_store(tmp_path) as opened:
                yield opened
        case "small segments":
            with closing_store(tmp_path, segment_bytes=100) as opened:
                yield opened
        case "S3, SQLite":
            with in_bucket(request, f"sqlite:///{tmp_path}/index.sqlite") as opened:
                yield opened
        case _:
            with in_bucket(request, request.getfixturevalue("postgres").database()) as opened:
                yield opened


@contextmanager
def in_bucket(request, url, **options):
    server = request.getfixturevalue("s3")
    index = Index(engine_of(parse_url(url)))
    index.open()
    opened = S3LogStore(Bucket(server.store(server.bucket())), index, lambda: 1.7e9, **options)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def closing_store(folder, **options):
    opened = FileLogStore(folder / "jobs", **options)
    try:
        yield opened
    finally:
        opened.close()


def lines(first, count=1, text=b"some lines"):
    return Lines(1, 0, 1, first, count, text)


async def until_sealed(store):
    """Wait for what is sealed in the background."""
    await asyncio.gather(*store._sealing)


async def replayed(store, job_id):
    records = []
    await store.replay(job_id, records.append)
    return records


async def all_read(store, job_id, offset=0, budget=LOTS):
    found = []
    while placed := await store.read(job_id, offset, budget):
        found += placed
        offset = placed[-1].offset + getattr(placed[-1].record, "count", 1)
    return found


RECORDS = [
    Opened(1, "KIDS"),
    lines(0, 3),
    lines(3, 2),
    TaskEnded(2, 0, 1, 3, 5, complete=True, missing=""),
    JobClosed(3, 4),
    lines(5),
]
SEEN = [Placed(0, RECORDS[1]), Placed(3, RECORDS[2]), Placed(5, RECORDS[3]), Placed(6, RECORDS[5])]


async def test_records_come_back_in_order(store):
    for record in RECORDS:
        await store.append({7: [record]})
    assert await replayed(store, 7) == RECORDS
    assert await all_read(store, 7) == SEEN


async def test_a_group_of_several_jobs_is_kept_by_job(store):
    await store.append({7: RECORDS, 8: RECORDS[:2]})
    assert await replayed(store, 7) == RECORDS
    assert await replayed(store, 8) == RECORDS[:2]


@pytest.mark.parametrize(("offset", "first"), [(0, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 3), (7, 4)])
async def test_reading_begins_with_the_record_that_holds_the_offset(store, offset, first):
    for record in RECORDS:
        await store.append({7: [record]})
    assert await all_read(store, 7, offset) == SEEN[first:]


async def test_a_small_budget_brings_a_record_at_a_time(store):
    await store.append({7: RECORDS})
    assert await store.read(7, 0, 1) == SEEN[:1]
    assert await all_read(store, 7, budget=1) == SEEN


async def test_an_unknown_job_is_empty(store):
    assert await replayed(store, 9) == []
    assert await store.read(9, 0, LOTS) == []
    assert await store.jobs() == {}
    await store.remove(9)


async def test_a_removed_job_is_gone_and_may_come_again(store):
    await store.append({7: RECORDS, 8: RECORDS})
    assert set(await store.jobs()) == {7, 8}
    await store.remove(7)
    assert set(await store.jobs()) == {8}
    assert await replayed(store, 7) == []
    await store.append({7: RECORDS[:2]})
    assert await all_read(store, 7) == SEEN[:1]


async def test_a_sealed_job_reads_as_before_and_goes_on(store):
    for record in RECORDS:
        await store.append({7: [record]})
    assert (await store.jobs())[7].ended is None
    await store.seal(7, 5)
    assert (await store.jobs())[7].ended == 5
    assert await replayed(store, 7) == RECORDS
    for offset, first in ((0, 0), (4, 1), (6, 3), (7, 4)):
        assert await all_read(store, 7, offset) == SEEN[first:]
    await store.append({7: [lines(6)]})
    await store.seal(7, 5)
    assert await all_read(store, 7) == [*SEEN, Placed(7, lines(6))]


async def test_sealing_a_job_does_not_make_it_younger(store):
    await store.append({7: RECORDS})
    before = (await store.jobs())[7].last
    await store.seal(7, 4)
    assert (await store.jobs())[7].last == before


async def test_a_pack_that_is_being_made_does_not_make_a_job_younger(tmp_path):
    with closing_store(tmp_path) as store:
        await store.append({7: RECORDS})
        before = (await store.jobs())[7].last
        (folder,) = (path for path in (tmp_path / "jobs").iterdir() if path.name.isdigit())
        being_made = folder / "being-made.new"
        being_made.touch()
        os.utime(being_made, (before + 60, before + 60))
        assert (await store.jobs())[7].last == before


async def test_any_offset_is_found_among_many_records(store):
    for start in range(0, 3_000, 100):
        await store.append({7: [lines(number, text=b"x" * 200) for number in range(start, start + 100)]})
    for offset in (0, 1, 99, 100, 1_234, 2_999):
        assert (await store.read(7, offset, 1))[0].offset == offset


async def test_records_outlive_the_process(tmp_path):
    with closing_store(tmp_path) as store:
        await store.append({7: RECORDS})
    with closing_store(tmp_path) as store:
        assert await replayed(store, 7) == RECORDS
        await store.append({7: [lines(6)]})
        assert await all_read(store, 7) == [*SEEN, Placed(7, lines(6))]


@pytest.mark.parametrize("cut", [1, 5, 8, 20, 50])
async def test_a_torn_tail_is_passed_over_and_what_follows_is_found(tmp_path, cut):
    with closing_store(tmp_path) as store:
        await store.append({7: RECORDS[:2]})
        await store.append({7: [lines(3, 2)]})
    (path,) = (tmp_path / "jobs").glob("*/*.log")
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    for _ in range(2):
        with closing_store(tmp_path) as store:
            assert await replayed(store, 7) == RECORDS[:2]
    with closing_store(tmp_path) as store:
        await store.append({7: [lines(3, 4)]})
    with closing_store(tmp_path) as store:
        assert await all_read(store, 7) == [SEEN[0], Placed(3, lines(3, 4))]


async def test_a_torn_first_write_is_passed_over(tmp_path):
    with closing_store(tmp_path) as store:
        await store.append({7: [RECORDS[0]]})
    (path,) = (tmp_path / "jobs").glob("*/*.log")
    path.write_bytes(path.read_bytes()[:-1])
    with closing_store(tmp_path) as store:
        assert await replayed(store, 7) == []
        await store.append({7: RECORDS})
    with closing_store(tmp_path) as store:
        assert await replayed(store, 7) == RECORDS


@pytest.mark.parametrize("sealed", [False, True])
async def test_damage_before_the_tail_is_named_and_never_read_as_lines(tmp_path, sealed):
    with closing_store(tmp_path, segment_bytes=1 if sealed else 1 << 20) as store:
        await store.append({7: RECORDS[:3]})
        # What was cut short ends a segment for good.
        with closing_store(tmp_path / "other") as other:
            await other.append({7: RECORDS[3:]})
        await until_sealed(store)
    (first,) = (tmp_path / "jobs").glob("*/0*")
    (second,) = (tmp_path / "other").glob("jobs/*/0*")
    second.rename(first.with_name("000001-00000000000000000005.log"))
    damaged = bytearray(first.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    first.write_bytes(damaged)
    with closing_store(tmp_path) as store, pytest.raises(InternalError, match=r"is damaged|does not go on where"):
        await replayed(store, 7)


async def test_damage_that_comes_while_the_service_runs_is_named(tmp_path):
    with closing_store(tmp_path) as store:
        await store.append({7: RECORDS})
        (path,) = (tmp_path / "jobs").glob("*/*.log")
        damaged = bytearray(path.read_bytes())
        damaged[60] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(InternalError, match="is damaged at byte"):
            await all_read(store, 7)


async def test_sealed_segments_are_smaller_and_few(tmp_path):
    text = b"12:10:24 - The read noise (ADU) for ccd ESO_CCD_#67 is : 2.34\n" * 50
    with closing_store(tmp_path, segment_bytes=100_000) as store:
        for first in range(200):
            await store.append({7: [lines(first, text=text)]})
        before = await replayed(store, 7)
        await until_sealed(store)
        await store.seal(7, 4)
        assert await replayed(store, 7) == before
        files = list((tmp_path / "jobs").glob("*/0*"))
        assert {path.suffix for path in files} == {".pack"}
        assert sum(path.stat().st_size for path in files) < 200 * len(text) / 20
        assert len(files) == 1
    with closing_store(tmp_path) as store:
        assert await replayed(store, 7) == before
        assert (await store.read(7, 123, 1))[0].offset == 123


async def test_what_a_crash_left_of_the_sealing_is_never_read_twice(tmp_path):
    with closing_store(tmp_path) as store:
        for record in RECORDS:
            await store.append({7: [record]})
        (path,) = (tmp_path / "jobs").glob("*/*.log")
        open_file = path.read_bytes()
        await store.seal(7, 4)
    path.write_bytes(open_file)
    (path.parent / "000000-00000000000000000000-000000.new").write_bytes(b"half of it")
    with closing_store(tmp_path) as store:
        assert await replayed(store, 7) == RECORDS
        await store.append({7: [lines(6)]})
        assert await all_read(store, 7) == [*SEEN, Placed(7, lines(6))]
    assert not path.exists()


async def test_the_wider_of_two_packs_counts(tmp_path):
    with closing_store(tmp_path) as store:
        await store.append({7: RECORDS[:3]})
        await store.seal(7, 4)
        (narrow,) = (tmp_path / "jobs").glob("*/*.pack")
        kept = narrow.read_bytes()
        await store.append({7: RECORDS[3:]})
        await store.seal(7, 4)
        assert not narrow.exists()
    narrow.write_bytes(kept)
    with closing_store(tmp_path) as store:
        assert await replayed(store, 7) == RECORDS
    assert not narrow.exists()


@pytest.mark.parametrize("stop", [0, 20, -10])
async def test_a_pack_that_was_cut_short_is_named(tmp_path, stop):
    with closing_store(tmp_path) as store:
        await store.append({7: RECORDS})
        await store.seal(7, 4)
    (pack,) = (tmp_path / "jobs").glob("*/*.pack")
    pack.write_bytes(pack.read_bytes()[:stop])
    with closing_store(tmp_path) as store, pytest.raises(InternalError, match="is damaged .*: restore it"):
        await replayed(store, 7)


async def test_a_disk_without_room_for_a_pack_leaves_everything_as_it_is(tmp_path):
    with closing_store(tmp_path) as store:
        await store.append({7: [lines(number, text=os.urandom(500)) for number in range(50)]})
        before = await replayed(store, 7)
        with files_of_at_most(10_000):
            await store.seal(7, 4)
        assert await replayed(store, 7) == before
        assert [path.suffix for path in (tmp_path / "jobs").glob("*/0*")] == [".log"]
        await store.append({7: [lines(50)]})
        await store.seal(7, 4)
        assert await replayed(store, 7) == [*before, lines(50)]


async def test_a_reader_keeps_its_files_while_they_are_sealed(tmp_path):
    with closing_store(tmp_path) as store:
        await store.append({7: RECORDS})
        async with store._shelf.using(7) as files:
            open_file = files[0]
            await store.seal(7, 4)
            assert open_file.path.exists()
            assert look(open_file.stretch, 0, LOTS) == SEEN
        assert not open_file.path.exists()


async def test_a_full_disk_keeps_nothing_of_a_group_and_recovers_by_itself(tmp_path):
    with closing_store(tmp_path) as store:
        await store.append({7: RECORDS[:2], 8: RECORDS[:2]})
        with files_of_at_most(2_000), pytest.raises(StorageFull, match="keep the lines and try again"):
            await store.append({7: [lines(3)], 8: [lines(3, text=b"x" * 4_000)], 9: [RECORDS[0]]})
        for job_id in (7, 8):
            assert await replayed(store, job_id) == RECORDS[:2]
        assert await replayed(store, 9) == []
        await store.append({7: [lines(3)], 8: [lines(3)], 9: [RECORDS[0]]})
    with closing_store(tmp_path) as store:
        for job_id in (7, 8):
            assert await replayed(store, job_id) == [*RECORDS[:2], lines(3)]
        assert await replayed(store, 9) == RECORDS[:1]


async def test_a_folder_that_cannot_be_written_is_a_fault_not_a_full_disk(tmp_path):
    with closing_store(tmp_path) as store:
        (tmp_path / "jobs" / "000000000007").write_text("in the way")
        with pytest.raises(InternalError, match=r"the logs cannot be written: .*"):
            await store.append({7: RECORDS})


def test_what_a_removal_left_behind_is_removed_at_the_next_start(tmp_path):
    left = tmp_path / "jobs" / "000000000007.removed"
    left.mkdir(parents=True)
    (left / "000000-00000000000000000000.log").write_bytes(b"x")
    with closing_store(tmp_path):
        assert not left.exists()
