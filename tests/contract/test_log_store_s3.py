"""What a bucket and its index promise beyond what every place for logs does."""

import asyncio
import os
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

import fakes_postgres
import fakes_s3
from dpu.errors import InternalError, Unreachable
from dpud.hosting.database import parse_url
from dpud.logs.bucket import Bucket
from dpud.logs.index import Index, Superseded, UnreadableIndex, engine_of
from dpud.logs.record import Lines, Opened
from dpud.logs.store import Placed
from dpud.logs.store_s3 import MANY, S3LogStore

LOTS = 1 << 30


@pytest.fixture(scope="module")
def s3():
    pytest.importorskip("moto", reason="no moto[server]: no S3 for tests")
    with fakes_s3.running() as server:
        yield server


class Place:
    """A bucket and an index, which outlive the services that use them."""

    def __init__(self, server, url):
        self.objects = server.store(server.bucket())
        self.url = url

    @contextmanager
    def service(self, **options):
        index = Index(engine_of(parse_url(self.url)))
        index.open()
        opened = S3LogStore(Bucket(self.objects), index, lambda: 1.7e9, **options)
        try:
            yield opened
        finally:
            opened.close()

    def names(self):
        return fakes_s3.objects(self.objects)


@pytest.fixture
def place(s3, tmp_path):
    return Place(s3, f"sqlite:///{tmp_path}/index.sqlite")


def line(number, text=b"a line"):
    return Lines(1, 0, 1, number, 1, text)


async def all_of(store, job_id=7):
    records = []
    await store.replay(job_id, records.append)
    return records


async def test_records_outlive_the_service(place):
    with place.service() as store:
        await store.append({7: [Opened(1, "KIDS"), line(0)], 8: [line(0)]})
    with place.service() as store:
        assert await all_of(store) == [Opened(1, "KIDS"), line(0)]
        await store.append({7: [line(1)]})
        assert await store.read(7, 1, LOTS) == [Placed(1, line(1))]


async def test_objects_of_many_commits_are_joined_while_the_job_runs(place):
    with place.service() as store:
        for number in range(MANY + 3):
            await store.append({7: [line(number)]})
        await asyncio.gather(*store._joining.values())
        assert len(place.names()) <= 4
        expected = [line(number) for number in range(MANY + 3)]
        assert await all_of(store) == expected
    with place.service() as store:
        assert await all_of(store) == expected


async def test_a_sealed_job_is_one_object_and_nothing_else_is_left(place):
    with place.service() as store:
        for number in range(5):
            await store.append({7: [line(number)]})
        # A put whose answer was lost, and a put of which the index never heard.
        store._bucket.put("jobs/000000000007/00000002-lost.pack", b"lost")
        await store.append({8: [line(0)]})
        await store.seal(7, 4)
        assert [name.split("/")[1] for name in place.names()] == ["000000000007", "000000000008"]
        assert await all_of(store) == [line(number) for number in range(5)]


async def test_what_is_being_written_is_not_swept(place):
    with place.service() as store:
        await store.append({7: [line(0)]})
        store._bucket.put("jobs/000000000007/00000001-underway.pack", b"not in the index yet")
        await store.seal(7, 4)
        assert any("underway" in name for name in place.names())


async def test_a_removed_job_leaves_no_object(place):
    with place.service() as store:
        await store.append({7: [line(0)], 8: [line(0)]})
        await store.remove(7)
        assert len(place.names()) == 1
        assert await all_of(store) == []
        await store.append({7: [line(3)]})
        assert await all_of(store) == [line(3)]


async def test_a_put_of_which_the_index_never_heard_is_never_read(place):
    with place.service() as store:
        await store.append({7: [line(0)]})
        store._bucket.put("jobs/000000000007/00000001-crashed.pack", b"anything")
    with place.service() as store:
        assert await all_of(store) == [line(0)]
        await store.append({7: [line(1)]})
        assert await all_of(store) == [line(0), line(1)]


async def test_of_two_services_the_newer_writes_and_the_older_ends(place):
    with place.service() as older:
        await older.append({7: [line(0)]})
        with place.service() as newer:
            with pytest.raises(Superseded, match="this one ends"):
                await older.append({7: [line(1, b"the older's")]})
            await newer.append({7: [line(1, b"the newer's")]})
            assert await all_of(newer) == [line(0), line(1, b"the newer's")]


async def test_an_object_that_is_gone_is_named(place):
    with place.service() as store:
        await store.append({7: [line(0)]})
    (name,) = place.names()
    Bucket(place.objects).delete([name])
    gone = "is not in the bucket any more: restore it from a backup"
    with place.service() as store, pytest.raises(InternalError, match=gone):
        await all_of(store)


async def test_a_bucket_that_is_away_takes_nothing_and_comes_back(place):
    with place.service() as store:
        await store.append({7: [line(0)]})
        there = store._bucket._store
        store._bucket._store = fakes_s3.LocalS3(9).store("nobody-listens")
        with pytest.raises(Unreachable, match="the bucket of the logs: .* cannot be written"):
            await store.append({7: [line(1)], 8: [line(0)]})
        store._bucket._store = there
        await store.append({7: [line(1)]})
        assert await all_of(store) == [line(0), line(1)]
        assert await all_of(store, 8) == []


async def test_an_index_that_is_away_takes_nothing_and_comes_back(s3):
    if (programs := fakes_postgres.programs()) is None:
        pytest.skip("no PostgreSQL server programs: initdb is neither on PATH nor in /usr/lib/postgresql")
    with fakes_postgres.running(programs) as server, Place(s3, server.database()).service() as store:
        await store.append({7: [line(0)]})
        server.stop()
        with pytest.raises(Unreachable, match="the index of the logs took nothing: .* keep the lines and try again"):
            await store.append({7: [line(1)]})
        server.start()
        await store.append({7: [line(1)]})
        assert await all_of(store) == [line(0), line(1)]


async def test_a_commit_whose_answer_was_lost_is_found_out(place):
    with place.service() as store:
        await store.append({7: [line(0)]})
        add = store._index.add

        def add_and_lose_the_answer(rows, now):
            add(rows, now)
            raise Unreachable("the connection broke in the middle of COMMIT")

        store._index.add = add_and_lose_the_answer
        with pytest.raises(Unreachable):
            await store.append({7: [line(1)]})
        store._index.add = add
        assert await all_of(store) == [line(0), line(1)]
        await store.append({7: [line(2)]})
        assert await all_of(store) == [line(0), line(1), line(2)]


async def test_large_objects_are_read_by_blocks(place):
    with place.service() as store:
        records = [line(number, os.urandom(50_000)) for number in range(40)]
        await store.append({7: records})
    with place.service() as store:
        assert (await store.read(7, 33, 1))[0] == Placed(33, records[33])
        assert store._bucket._cached < 1_000_000
        assert await all_of(store) == records


def test_the_cache_keeps_to_its_size(place):
    bucket = Bucket(place.objects, cache_bytes=1_000)
    for number in range(10):
        bucket.put(f"{number}", bytes(300))
    assert bucket._cached <= 1_000
    assert bucket.read("0", 10, 20, 300) == bytes(10)


def test_an_index_of_a_newer_version_is_left_alone(tmp_path):
    url = f"sqlite:///{tmp_path}/index.sqlite"
    index = Index(engine_of(parse_url(url)))
    index.open()
    index.close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE log_version SET version_num = 'index_9999'")
    engine.dispose()
    newer = Index(engine_of(parse_url(url)))
    with pytest.raises(UnreadableIndex, match="'index_9999', which this version does not know: upgrade"):
        newer.open()
    newer.close()
