"""The worker's caches of code and of frames, against a scripted code shipping and archive."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from dpu.errors import BadTree, InternalError, NotFound
from dpu.tree import digest_of
from dpu_api.v1 import archive_pb2
from dpu_api.v1.codeship_pb2 import Tree, TreeEntry
from dpud.worker.folders import remove
from dpud.worker.frames import Frames
from dpud.worker.peers import Channels
from dpud.worker.trees import Trees
from fakes_worker import PROJECT, Rig, surroundings


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with surroundings(tmp_path) as running:
        yield running


@pytest.fixture
async def channels(rig: Rig) -> AsyncIterator[Channels]:
    opened = Channels(rig.settings.code)
    yield opened
    await opened.close()


async def listed(folder: Path) -> list[str]:
    def find() -> list[str]:
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    return await asyncio.to_thread(find)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def trees(rig: Rig, channels: Channels, capacity: int = 10_000) -> Trees:
    return Trees(rig.settings.state / "code", capacity, channels, patience_s=0.5)


async def test_a_tree_is_there_whole_and_read_only(rig: Rig, channels: Channels) -> None:
    digest = rig.code.put({"dpu_recipes/__init__.py": b"", "dpu_recipes/tasks/bias.py": b"pass\n"})
    async with trees(rig, channels).holding(digest, PROJECT) as path:
        assert await listed(path) == ["dpu_recipes/__init__.py", "dpu_recipes/tasks/bias.py"]
        modes = {oct((path / name).stat().st_mode & 0o777) for name in (".", "dpu_recipes", "dpu_recipes/tasks")}
        assert modes == {"0o555"}
        assert (path / "dpu_recipes/tasks/bias.py").stat().st_mode & 0o777 == 0o444


async def test_trees_beyond_the_bound_go_and_their_files_with_them(rig: Rig, channels: Channels) -> None:
    cache = trees(rig, channels, capacity=250)
    digests = [rig.code.put({"a.py": bytes([65 + number]) * 100, "same.py": b"s"}) for number in range(4)]
    for digest in digests:
        async with cache.holding(digest, PROJECT):
            pass
    folder = rig.settings.state / "code"
    assert names(folder / "trees") == sorted(digests[2:])
    assert len(names(folder / "blobs")) == 3


async def test_a_tree_outlives_its_worker(rig: Rig, channels: Channels) -> None:
    digest = rig.code.put({"a.py": b"pass\n"})
    for _ in range(2):
        async with trees(rig, channels).holding(digest, PROJECT) as path:
            assert await listed(path) == ["a.py"]
    assert len(rig.code.sent) == 1


def lie_about_content(tree: Tree, blobs: dict[str, bytes]) -> None:
    blobs[tree.entries[0].digest] = b"PASS\n"


def lie_about_size(tree: Tree, blobs: dict[str, bytes]) -> None:
    blobs[tree.entries[0].digest] = b"pass\n" * 1_000_000


def climb(tree: Tree, _: dict[str, bytes]) -> None:
    tree.entries[0].path = "../../escaped.py"


def swap(tree: Tree, blobs: dict[str, bytes]) -> None:
    other = hashlib.sha256(b"evil").hexdigest()
    blobs[other] = b"evil"
    tree.entries.append(TreeEntry(path="b.py", mode=0o644, size=4, digest=other))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lie_about_content, "is not what its digest and its size of 5 say"),
        (lie_about_size, "is not what its digest and its size of 5 say"),
        (climb, "'..'"),
        (swap, "the tree that came as"),
    ],
)
async def test_a_hostile_tree_is_refused_and_leaves_nothing(
    rig: Rig, channels: Channels, spoil: Callable[[Tree, dict[str, bytes]], None], message: str
) -> None:
    digest = rig.code.put({"a.py": b"pass\n"})
    spoil(rig.code.trees[digest], rig.code.blobs)
    if spoil is climb:
        # Its digest agrees: only the path is wrong.
        tree = rig.code.trees.pop(digest)
        digest = digest_of(tree.entries)
        rig.code.trees[digest] = tree
    with pytest.raises(BadTree, match=message):
        async with trees(rig, channels).holding(digest, PROJECT):
            pass
    assert await listed(rig.settings.state / "code") == []


async def test_a_tree_that_nobody_knows_is_not_found(rig: Rig, channels: Channels) -> None:
    with pytest.raises(NotFound, match="there is no tree abc"):
        async with trees(rig, channels).holding("abc", PROJECT):
            pass


def frames(rig: Rig, channels: Channels, capacity: int = 10_000) -> Frames:
    return Frames(rig.settings.state / "frames", capacity, channels, in_place=False, patience_s=0.5)


def raw(rig: Rig, data: bytes) -> archive_pb2.Frame:
    return rig.archive.add(archive_pb2.Frame(frame_class="RawBiasFrame", file_name="raw.fits"), data)


async def test_frames_beyond_the_bound_go(rig: Rig, channels: Channels) -> None:
    cache = frames(rig, channels, capacity=2500)
    made = [raw(rig, bytes([65 + number]) * 1000) for number in range(3)]
    for frame in made:
        async with cache.holding(frame, PROJECT, 7) as path:
            assert path.stat().st_mode & 0o777 == 0o444
    assert names(rig.settings.state / "frames") == sorted(frame.digest for frame in made[1:])


async def test_a_frame_that_came_wrong_is_not_kept(rig: Rig, channels: Channels) -> None:
    frame = raw(rig, b"right")
    rig.archive.files[frame.id] = b"wrong"
    with pytest.raises(InternalError, match="not its own"):
        async with frames(rig, channels).holding(frame, PROJECT, 7):
            pass
    assert names(rig.settings.state / "frames") == []


async def test_a_frame_is_read_in_place_where_the_archive_is_here(rig: Rig, channels: Channels, tmp_path: Path) -> None:
    frame = raw(rig, b"right")
    frame.path = str(tmp_path / "archive" / "right.fits")
    cache = Frames(rig.settings.state / "frames", 100, channels, in_place=True)
    async with cache.holding(frame, PROJECT, 7) as path:
        assert str(path) == frame.path
    assert names(rig.settings.state / "frames") == []


def test_a_folder_is_removed_whatever_is_in_it_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    (tmp_path / "doomed/deep").mkdir(parents=True)
    (tmp_path / "doomed/link").symlink_to(outside)
    (tmp_path / "doomed/deep/file").touch()
    (tmp_path / "doomed/deep").chmod(0)
    (tmp_path / "doomed").chmod(0)
    remove(tmp_path / "doomed")
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert outside.stat().st_mode & 0o777 == 0o500
