"""The worker's caches of code and of frames, against a scripted code shipping and archive."""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
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


@pytest.fixture
def original(rig: Rig, tmp_path: Path) -> tuple[archive_pb2.Frame, Path]:
    """A frame whose file the worker can reach where the archive keeps it."""
    file = tmp_path / "archive" / "right.fits"
    file.parent.mkdir()
    file.write_bytes(b"right")
    frame = raw(rig, b"right")
    frame.path = str(file)
    return frame, file


def sharing(rig: Rig, channels: Channels) -> Frames:
    return Frames(rig.settings.state / "frames", 100, channels, in_place=True, patience_s=0.5)


async def test_a_frame_is_linked_and_not_copied_where_the_archive_is_here(
    rig: Rig, channels: Channels, original: tuple[archive_pb2.Frame, Path]
) -> None:
    frame, file = original
    cache = sharing(rig, channels)
    before = file.stat()
    for _ in range(2):
        async with cache.holding(frame, PROJECT, 7) as path:
            assert path.samefile(file)
    assert rig.archive.fetched == [frame.id]
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    file.unlink()
    async with cache.holding(frame, PROJECT, 7) as path:
        assert path.read_bytes() == b"right", "a link stays when the archive removes its own"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    memory = Path("/dev/shm")  # noqa: S108 (a file system, for a folder of its own)
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second file system for tests: /dev/shm")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


async def test_a_frame_on_another_file_system_is_read_there(rig: Rig, channels: Channels, elsewhere: Path) -> None:
    frame = raw(rig, b"right")
    frame.path = str(elsewhere / "right.fits")
    await asyncio.to_thread((elsewhere / "right.fits").write_bytes, b"right")
    cache = sharing(rig, channels)
    for _ in range(2):
        async with cache.holding(frame, PROJECT, 7) as path:
            assert str(path) == frame.path
    assert rig.archive.fetched == [frame.id]


async def test_a_file_of_the_archive_that_cannot_be_read_here_is_named(
    rig: Rig, channels: Channels, original: tuple[archive_pb2.Frame, Path]
) -> None:
    frame, file = original
    file.unlink()
    with pytest.raises(InternalError, match=f"{file} cannot be read here .*: unset DPU_ARCHIVE_IN_PLACE"):
        async with sharing(rig, channels).holding(frame, PROJECT, 7):
            pass
    assert names(rig.settings.state / "frames") == []


async def test_an_archive_without_a_folder_sends_to_who_would_read_in_place(rig: Rig, channels: Channels) -> None:
    frame = raw(rig, b"right")
    rig.archive.sends_always = True
    async with sharing(rig, channels).holding(frame, PROJECT, 7) as path:
        assert path.read_bytes() == b"right"


async def test_links_of_an_earlier_run_are_made_again(
    rig: Rig, channels: Channels, original: tuple[archive_pb2.Frame, Path]
) -> None:
    frame, _ = original
    for _ in range(2):
        async with sharing(rig, channels).holding(frame, PROJECT, 7):
            pass
    assert rig.archive.fetched == [frame.id] * 2


async def test_a_frame_outlives_its_worker_and_is_hashed_once(rig: Rig, channels: Channels) -> None:
    frame = raw(rig, b"right")
    for _ in range(2):
        async with frames(rig, channels).holding(frame, PROJECT, 7) as path:
            assert path.read_bytes() == b"right"
    assert rig.archive.fetched == [frame.id]


@pytest.mark.parametrize("damage", [b"wrong", b"rig", b""])
async def test_a_frame_that_the_disk_has_spoilt_meanwhile_is_fetched_anew(
    rig: Rig, channels: Channels, damage: bytes
) -> None:
    frame = raw(rig, b"right")
    async with frames(rig, channels).holding(frame, PROJECT, 7) as path:
        pass
    path.unlink()
    path.write_bytes(damage)
    cache = frames(rig, channels)
    for _ in range(2):
        async with cache.holding(frame, PROJECT, 7) as path:
            assert path.read_bytes() == b"right"
    assert rig.archive.fetched == [frame.id] * 2


async def test_a_frame_that_is_here_is_at_hand_and_stays_while_it_is_held(rig: Rig, channels: Channels) -> None:
    cache = frames(rig, channels, capacity=1500)
    first, second = (raw(rig, letter * 1000) for letter in (b"a", b"b"))
    async with AsyncExitStack() as held:
        assert cache.at_hand(first, held) is None
        await read_into(cache, first)
        path = cache.at_hand(first, held)
        await read_into(cache, second)
        assert path is not None
        assert path.read_bytes() == b"a" * 1000
        assert names(rig.settings.state / "frames") == [first.digest]
    await read_into(cache, second)
    assert names(rig.settings.state / "frames") == [second.digest]


async def read_into(cache: Frames, frame: archive_pb2.Frame) -> None:
    async with cache.holding(frame, PROJECT, 7):
        pass


@pytest.mark.parametrize("damage", [b"rig", None])
async def test_a_frame_that_is_spoilt_is_not_at_hand(rig: Rig, channels: Channels, damage: bytes | None) -> None:
    cache, frame = frames(rig, channels), raw(rig, b"right")
    async with cache.holding(frame, PROJECT, 7) as path:
        path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    async with AsyncExitStack() as held:
        assert cache.at_hand(frame, held) is None


async def test_a_frame_of_an_earlier_run_is_at_hand_when_it_was_hashed(rig: Rig, channels: Channels) -> None:
    frame = raw(rig, b"right")
    await read_into(frames(rig, channels), frame)
    cache = frames(rig, channels)
    async with AsyncExitStack() as held:
        assert cache.at_hand(frame, held) is None
        await read_into(cache, frame)
        assert cache.at_hand(frame, held) is not None


async def test_a_frame_of_values_only_is_not_at_hand(rig: Rig, channels: Channels) -> None:
    async with AsyncExitStack() as held:
        assert frames(rig, channels).at_hand(archive_pb2.Frame(id="values"), held) is None


async def test_a_frame_that_somebody_removed_from_the_cache_is_fetched_anew(rig: Rig, channels: Channels) -> None:
    frame = raw(rig, b"right")
    cache = frames(rig, channels)
    async with cache.holding(frame, PROJECT, 7) as path:
        path.unlink()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(read(cache, frame))
    assert rig.archive.fetched == [frame.id] * 2


async def read(cache: Frames, frame: archive_pb2.Frame) -> None:
    async with cache.holding(frame, PROJECT, 7) as path:
        assert path.read_bytes() == b"right"


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
