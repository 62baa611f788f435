"""What every place for code must do; the folder's own promises after that."""

import hashlib
import resource
from contextlib import contextmanager
from functools import partial

import pytest
import zstandard

from dpu.errors import Exhausted, NotFound, StorageFull, Unreachable
from dpu_api.v1.codeship_pb2 import Tree, Version
from dpud.codeship.blobs import Packed
from dpud.codeship.disused import Removed
from dpud.codeship.store import MemoryCodeStore
from dpud.codeship.store_s3 import S3CodeStore
from dpud.codeship.store_sqlite import SqliteCodeStore
from fakes_codeship import digest, entry
from fakes_s3 import objects, running

A, B = b"first", b"second, longer"
TREE = digest(b"tree")


def packed(*contents):
    return [Packed(digest(each), len(each), zstandard.compress(each)) for each in contents]


def noise(length):
    return hashlib.shake_256(b"noise").digest(length)


def names(*contents):
    return [digest(each) for each in contents]


def sizes(*contents):
    return {digest(each): len(each) for each in contents}


class Clock:
    """Time, as the tests have it."""

    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now

    def pass_days(self, days):
        """Let so many days pass, and return the moment that is 90 days ago then."""
        self.now += days * 86_400.0
        return self.now - 90 * 86_400.0


@contextmanager
def opened(folder, **options):
    store = SqliteCodeStore(folder, **options)
    try:
        yield store
    finally:
        store.close()


@pytest.fixture(scope="module")
def s3():
    with running() as server:
        yield server


def opening(request, kind):
    """Return what opens a store of one kind, again and again, and finds what was left in it."""
    if kind == "sqlite":
        return partial(opened, request.getfixturevalue("tmp_path"))
    server = request.getfixturevalue("s3")
    bucket = server.store(server.bucket())

    @contextmanager
    def in_bucket(**options):
        yield S3CodeStore(bucket, **options)

    return in_bucket


@pytest.fixture(params=["memory", "sqlite", "s3"])
def store(request):
    if request.param == "memory":
        yield MemoryCodeStore()
    else:
        with opening(request, request.param)() as lasting:
            yield lasting


@pytest.fixture(params=["sqlite", "s3"])
def lasting(request):
    return opening(request, request.param)


async def test_blobs_come_back(store):
    await store.put_blobs("KIDS", packed(A, B))
    assert await store.sizes("KIDS", names(A, B, b"unknown")) == sizes(A, B)
    assert [await store.blob("KIDS", digest(B))] == packed(B)


async def test_blobs_may_be_put_again(store):
    for _ in range(2):
        await store.put_blobs("KIDS", packed(A, B))
    assert [await store.blob("KIDS", digest(A))] == packed(A)


async def test_a_project_does_not_see_anothers_blobs(store):
    await store.put_blobs("KIDS", packed(A, B))
    assert await store.sizes("VST", names(A, B)) == {}
    with pytest.raises(NotFound, match=f"there is no blob {digest(A)}"):
        await store.blob("VST", digest(A))
    await store.put_blobs("VST", packed(A))
    assert await store.sizes("VST", names(A, B)) == sizes(A)


async def test_who_may_see_all_sees_all(store):
    await store.put_blobs("KIDS", packed(A, B))
    await store.put_tree("VST", TREE, b"entries")
    assert [await store.blob(None, digest(A))] == packed(A)
    assert await store.tree(None, TREE) == b"entries"


async def test_trees_come_back_to_their_project(store):
    await store.put_tree("KIDS", TREE, b"entries")
    await store.put_tree("KIDS", TREE, b"entries, described otherwise")
    assert await store.tree("KIDS", TREE) == b"entries, described otherwise"
    with pytest.raises(NotFound, match=f"there is no tree of code {TREE}"):
        await store.tree("VST", TREE)
    with pytest.raises(NotFound):
        await store.tree(None, digest(b"other"))


@pytest.mark.parametrize("project", ["", "../../etc", "a/b", "\0", "é" * 300])
async def test_any_name_of_a_project_is_harmless(store, project):
    await store.put_blobs(project, packed(A, B))
    assert await store.sizes(project, names(A, B)) == sizes(A, B)


async def test_a_tree_brings_blobs_along(store):
    await store.put_blobs("KIDS", packed(A))
    await store.put_tree("KIDS", TREE, b"entries", packed(A, B))
    assert await store.sizes("KIDS", names(A, B)) == sizes(A, B)
    assert await store.tree("KIDS", TREE) == b"entries"


async def test_versions_are_kept_by_name_until_they_are_removed(store):
    for name in ("2.4", "2.3"):
        await store.put_version(name, name.encode())
    await store.put_version("2.4", b"anew")
    assert list((await store.versions()).items()) == [("2.3", b"2.3"), ("2.4", b"anew")]
    await store.remove_version("2.3")
    await store.remove_version("2.3")
    assert await store.versions() == {"2.4": b"anew"}


async def test_the_tree_of_a_version_stays_however_little_it_is_used(lasting):
    clock = Clock()
    with lasting(clock=clock) as store:
        name = await put(store, "KIDS", A, B)
        await store.put_version("2.4", Version(name="2.4", digest=name).SerializeToString())
    with lasting(clock=clock) as store:
        assert await store.remove_disused(clock.pass_days(1000)) == Removed(0, 0, 0)
        assert await store.tree(None, name)
        assert [await store.blob(None, digest(B))] == packed(B)
        await store.remove_version("2.4")
        assert await store.remove_disused(clock.pass_days(1000)) == Removed(1, 2, len(A) + len(B))


async def test_code_outlives_the_process(lasting):
    with lasting() as store:
        name = await put(store, "KIDS", A, B)
    with lasting() as store:
        assert [await store.blob("KIDS", digest(A))] == packed(A)
        assert await store.sizes("KIDS", names(A, B)) == sizes(A, B)
        assert await store.sizes("VST", names(A, B)) == {}
        assert len(Tree.FromString(await store.tree("KIDS", name)).entries) == 2


async def test_a_blob_of_many_projects_is_stored_once(tmp_path):
    content = noise(100_000)
    with opened(tmp_path) as store:
        for project in range(20):
            await store.put_blobs(f"project {project}", packed(content))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 3 * len(content)


async def test_a_full_disk_keeps_nothing_of_what_it_refuses_and_recovers_by_itself(tmp_path):
    large = noise(500_000)
    with opened(tmp_path) as store:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
        try:
            with pytest.raises(StorageFull, match="the disk of the code store is full"):
                await store.put_tree("KIDS", TREE, b"entries", packed(A, large))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert await store.sizes("KIDS", names(A, large)) == {}
        with pytest.raises(NotFound):
            await store.tree("KIDS", TREE)
        await store.put_blobs("KIDS", packed(A, large))
        assert [await store.blob("KIDS", digest(large))] == packed(large)


async def put(store, project, *contents):
    """Put a tree of files with these contents; return its digest."""
    tree = Tree(entries=[entry(f"{number}.py", content) for number, content in enumerate(contents)])
    await store.put_tree(project, name := digest(b"".join(contents)), tree.SerializeToString(), packed(*contents))
    return name


async def test_trees_that_nobody_used_for_long_go_and_what_only_they_had(lasting):
    clock = Clock()
    with lasting(clock=clock) as store:
        old, used, fetched = [await put(store, "KIDS", A, content) for content in (b"old", b"used", b"fetched")]
        before = clock.pass_days(100)
        await store.tree("KIDS", used)
        await store.tree(None, fetched)
        assert await store.remove_disused(before) == Removed(trees=1, blobs=1, bytes=3)
        with pytest.raises(NotFound):
            await store.tree(None, old)
        left = (A, b"used", b"fetched")
        assert await store.sizes("KIDS", names(*left, b"old")) == sizes(*left)
        assert await store.remove_disused(clock.pass_days(100)) == Removed(2, 3, len(A) + 4 + 7)
        assert await store.sizes("KIDS", names(*left)) == {}


async def test_a_tree_that_was_used_before_a_restart_stays(lasting):
    clock = Clock()
    with lasting(clock=clock) as store:
        name = await put(store, "KIDS", A)
        before = clock.pass_days(100)
        await store.tree("KIDS", name)
    with lasting(clock=clock) as store:
        assert await store.remove_disused(before) == Removed(0, 0, 0)
        assert await store.tree("KIDS", name)


async def test_the_disk_has_back_what_was_removed(tmp_path):
    clock = Clock()
    with opened(tmp_path, clock=clock) as store:
        await put(store, "KIDS", noise(4_000_000))
        await store.remove_disused(clock.pass_days(100))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 200_000


async def test_what_one_project_leaves_another_keeps(lasting):
    clock = Clock()
    with lasting(clock=clock) as store:
        name = await put(store, "KIDS", A, B)
        await put(store, "VST", A, B)
        before = clock.pass_days(100)
        await store.tree("KIDS", name)
        assert await store.remove_disused(before) == Removed(1, 0, 0)
        assert await store.sizes("VST", names(A, B)) == {}
        assert [await store.blob("KIDS", digest(A))] == packed(A)


async def test_a_blob_whose_tree_is_on_its_way_stays(lasting):
    clock = Clock()
    with lasting(clock=clock) as store:
        await store.put_blobs("KIDS", packed(A, B))
        before = clock.pass_days(100)
        await store.put_blobs("KIDS", packed(A))
        await store.remove_disused(before)
        assert await store.sizes("KIDS", names(A, B)) == sizes(A)


async def test_a_project_has_a_quota_that_is_free_again_when_its_code_went(lasting):
    clock = Clock()
    with lasting(quota=10, clock=clock) as store:
        await store.put_blobs("KIDS", packed(A))
        await store.put_blobs("KIDS", packed(A))
        with pytest.raises(Exhausted, match="over its quota of 0.0 MiB: ship less, or wait"):
            await store.put_blobs("KIDS", packed(B))
        with pytest.raises(Exhausted):
            await store.put_tree("KIDS", TREE, b"entries", packed(B))
        assert await store.sizes("KIDS", names(A, B)) == sizes(A)
        await store.put_blobs("VST", packed(b"others"))
        await store.remove_disused(clock.pass_days(100))
        await store.put_blobs("KIDS", packed(b"again"))


async def test_a_bucket_that_is_away_is_said_and_nothing_half_is_held(s3):
    bucket = s3.store(s3.bucket())
    store = S3CodeStore(bucket)
    assert await store.sizes("KIDS", names(A)) == {}
    store._objects = s3.store("nowhere")
    with pytest.raises(Unreachable, match="the bucket of the code: blobs/.* cannot be written"):
        await store.put_tree("KIDS", TREE, b"entries", packed(A, B))
    store._objects = bucket
    assert await store.sizes("KIDS", names(A, B)) == {}
    with pytest.raises(NotFound):
        await store.tree("KIDS", TREE)
    assert await store.tree("KIDS", await put(store, "KIDS", A, B))


async def test_in_a_bucket_a_blob_of_many_projects_is_stored_once(s3):
    bucket = s3.store(s3.bucket())
    store = S3CodeStore(bucket)
    for project in range(3):
        await put(store, f"project {project}", A)
    assert len(objects(bucket)) == 1 + 3


async def test_what_is_removed_from_a_bucket_is_gone_from_it(s3):
    bucket, clock = s3.store(s3.bucket()), Clock()
    store = S3CodeStore(bucket, clock=clock)
    await put(store, "KIDS", *(f"{number}".encode() for number in range(40)))
    assert await store.remove_disused(clock.pass_days(100)) == Removed(1, 40, 70)
    assert objects(bucket) == []
