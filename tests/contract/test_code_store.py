"""What every place for code must do; the folder's own promises after that."""

import os
import resource
from contextlib import contextmanager

import pytest

from dpu.errors import Exhausted, NotFound, StorageFull
from dpu_api.v1.codeship_pb2 import Tree
from dpud.codeship.disused import Removed
from dpud.codeship.store import MemoryCodeStore
from dpud.codeship.store_files import FileCodeStore
from fakes_codeship import digest, entry

A, B = b"first", b"second, longer"
BLOBS = {digest(A): A, digest(B): B}
TREE = digest(b"tree")


@contextmanager
def opened(folder):
    store = FileCodeStore(folder)
    try:
        yield store
    finally:
        store.close()


@pytest.fixture(params=["memory", "files"])
def store(request, tmp_path):
    if request.param == "memory":
        yield MemoryCodeStore()
    else:
        with opened(tmp_path) as files:
            yield files


async def test_blobs_come_back(store):
    await store.put_blobs("KIDS", BLOBS)
    assert await store.sizes("KIDS", [*BLOBS, digest(b"unknown")]) == {digest(A): len(A), digest(B): len(B)}
    assert await store.blob("KIDS", digest(B)) == B


async def test_blobs_may_be_put_again(store):
    for _ in range(2):
        await store.put_blobs("KIDS", BLOBS)
    assert await store.blob("KIDS", digest(A)) == A


async def test_a_project_does_not_see_anothers_blobs(store):
    await store.put_blobs("KIDS", BLOBS)
    assert await store.sizes("VST", BLOBS) == {}
    with pytest.raises(NotFound, match=f"there is no blob {digest(A)}"):
        await store.blob("VST", digest(A))
    await store.put_blobs("VST", {digest(A): A})
    assert await store.sizes("VST", BLOBS) == {digest(A): len(A)}


async def test_who_may_see_all_sees_all(store):
    await store.put_blobs("KIDS", BLOBS)
    await store.put_tree("VST", TREE, b"entries")
    assert await store.blob(None, digest(A)) == A
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
    await store.put_blobs(project, BLOBS)
    assert await store.sizes(project, BLOBS) == {digest(A): len(A), digest(B): len(B)}


async def test_code_outlives_the_process_and_nothing_half_written_is_found(tmp_path):
    with opened(tmp_path) as store:
        await store.put_blobs("KIDS", BLOBS)
        await store.put_tree("KIDS", TREE, b"entries")
    (tmp_path / "incoming" / "half").write_bytes(b"fir")
    with opened(tmp_path) as store:
        assert await store.blob("KIDS", digest(A)) == A
        assert await store.tree("KIDS", TREE) == b"entries"
    assert list((tmp_path / "incoming").iterdir()) == []


async def test_a_blob_of_two_projects_is_stored_once(tmp_path):
    with opened(tmp_path) as store:
        await store.put_blobs("KIDS", BLOBS)
        await store.put_blobs("VST", BLOBS)
    assert (tmp_path / "blobs" / digest(A)).stat().st_nlink == 3


async def test_a_full_disk_keeps_nothing_half_written_and_recovers_by_itself(tmp_path):
    large = b"x" * 200_000
    with opened(tmp_path) as store:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            with pytest.raises(StorageFull, match="the disk of the code store is full"):
                await store.put_blobs("KIDS", {digest(A): A, digest(large): large})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert await store.sizes("KIDS", [digest(large)]) == {}
        assert list((tmp_path / "incoming").iterdir()) == []
        await store.put_blobs("KIDS", {digest(A): A, digest(large): large})
        assert await store.blob("KIDS", digest(large)) == large


NOW = 1_800_000_000.0
DAY = 86_400.0


def age(folder, days):
    """Let everything have been used last so many days ago."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (NOW - days * DAY, NOW - days * DAY))


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


async def put(store, project, *contents):
    """Put a tree of files with these contents; return its digest."""
    tree = Tree(entries=[entry(f"{number}.py", content) for number, content in enumerate(contents)])
    await store.put_blobs(project, {digest(content): content for content in contents})
    await store.put_tree(project, name := digest(b"".join(contents)), tree.SerializeToString())
    return name


async def test_trees_that_nobody_used_for_long_go_and_what_only_they_had(tmp_path):
    with opened(tmp_path) as store:
        old, used, fetched = [await put(store, "KIDS", A, content) for content in (b"old", b"used", b"fetched")]
        age(tmp_path, days=100)
        await store.tree("KIDS", used)
        await store.tree(None, fetched)
        assert await store.remove_disused(NOW - 90 * DAY) == Removed(trees=1, blobs=1, bytes=3)
        with pytest.raises(NotFound):
            await store.tree(None, old)
        assert set(await store.sizes("KIDS", map(digest, (A, b"old", b"used", b"fetched")))) == {
            digest(A),
            digest(b"used"),
            digest(b"fetched"),
        }
        age(tmp_path, days=100)
        assert await store.remove_disused(NOW - 90 * DAY) == Removed(2, 3, len(A) + 4 + 7)
    assert files_of(tmp_path) == []


async def test_what_one_project_leaves_another_keeps(tmp_path):
    with opened(tmp_path) as store:
        await put(store, "VST", A)
        name = await put(store, "KIDS", A, B)
        age(tmp_path, days=100)
        await store.tree("KIDS", name)
        os.utime(tmp_path / "trees" / name, (0, 0))
        assert (await store.remove_disused(NOW - 90 * DAY)).trees == 1
        assert await store.sizes("VST", BLOBS) == {}
        assert await store.blob("KIDS", digest(A)) == A


async def test_a_blob_whose_tree_is_on_its_way_stays(tmp_path):
    with opened(tmp_path) as store:
        await store.put_blobs("KIDS", BLOBS)
        age(tmp_path, days=100)
        await store.put_blobs("KIDS", {digest(A): A})
        await store.remove_disused(NOW - 90 * DAY)
        assert set(await store.sizes("KIDS", BLOBS)) == {digest(A)}


async def test_a_project_has_a_quota_that_is_free_again_when_its_code_went(tmp_path):
    store = FileCodeStore(tmp_path, quota=10)
    try:
        await store.put_blobs("KIDS", {digest(A): A})
        await store.put_blobs("KIDS", {digest(A): A})
        with pytest.raises(Exhausted, match="over its quota of 0.0 MiB: ship less, or wait"):
            await store.put_blobs("KIDS", {digest(B): B})
        assert await store.sizes("KIDS", BLOBS) == {digest(A): len(A)}
        await store.put_blobs("VST", {digest(b"others"): b"others"})
        age(tmp_path, days=100)
        await store.remove_disused(NOW - 90 * DAY)
        await store.put_blobs("KIDS", {digest(b"again"): b"again"})
    finally:
        store.close()
