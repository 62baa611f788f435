"""One suite that every store passes, in memory, in a folder and in a bucket."""

import errno
import hashlib
import os
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import obstore
import pytest

import fakes_s3
from dpu.errors import BadFrame, NotFound, StorageFull, Unreachable
from dpud.archive.store import MemoryStore
from dpud.archive.store_files import FolderStore, refusing
from dpud.archive.store_s3 import YOUNG, BucketLabel, BucketStore
from fakes_disk import files_of_at_most

#: Nothing is young: an S3's clock counts whole seconds.
OLD = timedelta(seconds=-2)


@pytest.fixture(scope="module")
def s3():
    pytest.importorskip("moto", reason="no moto[server]: no S3 for tests")
    with fakes_s3.running() as server:
        yield server


@pytest.fixture
def objects(s3):
    return s3.store(s3.bucket())


@pytest.fixture(params=["memory", "folder", "bucket"])
def store(request, tmp_path):
    match request.param:
        case "memory":
            return MemoryStore()
        case "folder":
            return FolderStore(tmp_path / "files")
        case _:
            return BucketStore(request.getfixturevalue("objects"))


@pytest.fixture
def folder(tmp_path):
    return FolderStore(tmp_path / "files")


def a_file(tmp_path, content=b"pixels", name="file"):
    file = tmp_path / name
    file.write_bytes(content)
    return file, hashlib.sha256(content).hexdigest()


def left(tmp_path):
    return [file for file in (tmp_path / "files").rglob("*") if file.is_file()]


@pytest.mark.parametrize("ours", [True, False])
def test_a_file_comes_back_as_it_went_in(store, tmp_path, ours):
    file, digest = a_file(tmp_path, os.urandom(3 << 20))
    content = file.read_bytes()
    store.put(file, digest, ours=ours)
    with store.open(digest) as reading:
        assert reading.read() == content
    assert list(store.digests()) == [digest]
    assert file.exists() is not ours


@pytest.mark.parametrize("ours", [True, False])
def test_a_file_put_twice_is_there_once(store, tmp_path, ours):
    for _ in range(2):
        file, digest = a_file(tmp_path)
        store.put(file, digest, ours=ours)
        assert file.exists() is not ours
    assert list(store.digests()) == [digest]


def test_bytes_that_are_not_the_announced_ones_are_refused(store, tmp_path):
    file, digest = a_file(tmp_path)
    announced = "0" * 64
    with pytest.raises(BadFrame, match=f"digest {digest}, not {announced} as announced"):
        store.put(file, announced)
    assert list(store.digests()) == []


@pytest.mark.parametrize("announced", ["", "../../elsewhere", "0" * 63, "F" * 64])
def test_what_is_no_digest_is_no_place(store, tmp_path, announced):
    file, _ = a_file(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadFrame):
        store.put(file, announced)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_cannot_be_read_is_named(store, tmp_path):
    with pytest.raises(BadFrame, match=r"nowhere' cannot be read: No such file or directory"):
        store.put(tmp_path / "nowhere", "0" * 64)
    assert list(store.digests()) == []


def test_an_unknown_file_is_not_found(store):
    with pytest.raises(NotFound, match="no file has digest"):
        store.open("0" * 64)


def test_a_removed_file_is_gone(store, tmp_path):
    file, digest = a_file(tmp_path)
    store.put(file, digest)
    store.remove(digest)
    store.remove(digest)
    assert list(store.digests()) == []
    with pytest.raises(NotFound):
        store.open(digest)


def test_a_file_in_a_folder_is_read_only_and_at_its_place(folder, tmp_path):
    file, digest = a_file(tmp_path)
    folder.put(file, digest)
    place = folder.path(digest)
    assert place == tmp_path / "files" / digest[:2] / digest[2:4] / digest
    assert place.stat().st_mode & 0o777 == 0o444


def test_a_file_that_is_not_in_a_folder_has_no_place(folder):
    assert folder.path("0" * 64) is None


def test_a_packed_file_lies_under_the_digest_of_what_it_unpacks_to_on_another_disk_too(tmp_path):
    elsewhere = Path("/dev/shm")  # noqa: S108 (a disk of its own, in a folder of its own)
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk: /dev/shm is none")
    with TemporaryDirectory(dir=elsewhere) as other:
        store, (file, _) = FolderStore(Path(other)), a_file(tmp_path, b"packed")
        _, digest = a_file(tmp_path, b"unpacked", name="before")
        store.put(file, digest, ours=True)
        assert not file.exists()
        with store.open(digest) as reading:
            assert reading.read() == b"packed"
        assert store.path(digest).stat().st_mode & 0o777 == 0o444


def test_who_still_holds_the_source_cannot_change_what_was_stored(folder, tmp_path):
    file, digest = a_file(tmp_path, b"as announced")
    with file.open("r+b") as held:
        folder.put(file, digest)
        held.write(b"changed")
    assert folder.path(digest).read_bytes() == b"as announced"


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    FolderStore(tmp_path / "files")
    (tmp_path / "files" / "partial" / "half").write_bytes(b"half")
    FolderStore(tmp_path / "files")
    assert left(tmp_path) == []


def test_a_full_disk_names_the_folder_and_leaves_nothing(folder, tmp_path):
    file, digest = a_file(tmp_path, os.urandom(1 << 20))
    with files_of_at_most(1 << 16), pytest.raises(StorageFull, match=r"/files takes nothing more: File too large"):
        folder.put(file, digest)
    assert left(tmp_path) == []
    folder.put(file, digest)
    assert [place.name for place in left(tmp_path)] == [digest]


def test_an_unwritable_folder_is_a_full_one(tmp_path):
    def refuse():
        with refusing(tmp_path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with pytest.raises(StorageFull, match=f"{tmp_path} takes nothing more: Permission denied: nothing was stored"):
        refuse()


def test_another_fault_of_the_disk_stays_what_it_is(tmp_path):
    def fail():
        with refusing(tmp_path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

    with pytest.raises(IsADirectoryError):
        fail()


# --- in a bucket


def test_a_file_in_a_bucket_has_no_path_and_lies_under_its_digest(objects, tmp_path):
    file, digest = a_file(tmp_path)
    store = BucketStore(objects)
    store.put(file, digest)
    assert store.path(digest) is None
    assert fakes_s3.objects(objects) == [f"files/{digest[:2]}/{digest}"]


def test_a_large_file_goes_up_in_parts_and_comes_back(objects, tmp_path):
    file, digest = a_file(tmp_path, os.urandom(12 << 20))
    store = BucketStore(objects)
    store.put(file, digest)
    with store.open(digest) as reading:
        assert hashlib.file_digest(reading, "sha256").hexdigest() == digest


def test_what_is_young_is_not_swept_as_another_archive_may_be_taking_it_in(objects, tmp_path):
    file, digest = a_file(tmp_path)
    BucketStore(objects).put(file, digest)
    assert list(BucketStore(objects, young=YOUNG).digests(settled=True)) == []
    assert list(BucketStore(objects, young=OLD).digests(settled=True)) == [digest]
    assert list(BucketStore(objects).digests()) == [digest]


def test_what_a_killed_process_was_sending_is_removed_when_it_is_old(objects):
    obstore.put(objects, "partial/half", b"half")
    BucketStore(objects)
    assert fakes_s3.objects(objects) == ["partial/half"]
    BucketStore(objects, young=OLD)
    assert fakes_s3.objects(objects) == []


def test_a_refused_file_leaves_nothing_in_the_bucket(objects, tmp_path):
    file, _ = a_file(tmp_path)
    with pytest.raises(BadFrame):
        BucketStore(objects).put(file, "0" * 64)
    assert fakes_s3.objects(objects) == []


def test_a_bucket_that_is_away_is_unreachable_and_nothing_is_lost(objects, tmp_path):
    store = BucketStore(objects)
    file, digest = a_file(tmp_path)
    store._objects = fakes_s3.LocalS3(9).store("nobody-listens", retry_config={"max_retries": 0})
    for call in (
        lambda: store.put(file, digest, ours=True),
        lambda: store.put(file, digest),
        lambda: store.open(digest),
        lambda: store.remove(digest),
        lambda: list(store.digests()),
    ):
        with pytest.raises(Unreachable, match="the bucket of the archive: .*cannot be"):
            call()
    store._objects = objects
    store.put(file, digest, ours=True)
    assert fakes_s3.objects(objects) == [f"files/{digest[:2]}/{digest}"]


def test_the_mark_of_a_catalogue_lies_in_the_bucket(objects):
    label = BucketLabel(objects, "s3://frames")
    assert label.read() == ""
    label.write("m1")
    assert BucketLabel(objects, "s3://frames").read() == "m1"
    assert list(BucketStore(objects).digests()) == []
