"""Which catalogue may sweep which files."""

import hashlib

import pytest

from dpud.archive.pairing import FolderLabel, pair
from dpud.archive.store import MemoryStore
from dpud.hosting.settings import BadSetting


class Marks:
    """A catalogue as the pairing sees it."""

    def __init__(self, mark="", *, empty=True):
        self._mark = mark
        self._empty = empty

    def mark(self):
        return self._mark

    def set_mark(self, mark):
        self._mark = mark

    def is_empty(self):
        return self._empty


def with_file(folder):
    store = MemoryStore()
    file = folder / "frame.fits"
    file.write_bytes(b"frame")
    store.put(file, hashlib.sha256(b"frame").hexdigest())
    return store


def test_two_that_are_empty_are_marked_together(tmp_path):
    catalogue = Marks()
    pair(catalogue, MemoryStore(), FolderLabel(tmp_path), lambda: "m1")
    assert catalogue.mark() == "m1"
    assert (tmp_path / "catalogue.mark").read_text() == "m1\n"
    pair(catalogue, with_file(tmp_path), FolderLabel(tmp_path), lambda: "m2")
    assert catalogue.mark() == "m1"


def test_a_catalogue_from_before_there_were_marks_gets_one(tmp_path):
    catalogue = Marks(empty=False)
    pair(catalogue, with_file(tmp_path), FolderLabel(tmp_path), lambda: "m1")
    assert catalogue.mark() == "m1"


@pytest.mark.parametrize(
    ("catalogue", "of_files"),
    [
        (Marks(), ""),  # an empty database beside files
        (Marks(), "m1"),
        (Marks("m2"), "m1"),
        (Marks("m2", empty=False), "m1"),
        (Marks("m2", empty=False), ""),
    ],
)
def test_files_of_another_catalogue_are_not_swept(tmp_path, catalogue, of_files):
    if of_files:
        (tmp_path / "catalogue.mark").write_text(f"{of_files}\n")
    mark = catalogue.mark()
    with pytest.raises(BadSetting, match="its files are not those of this catalogue"):
        pair(catalogue, with_file(tmp_path), FolderLabel(tmp_path), lambda: "m9")
    assert catalogue.mark() == mark


def test_a_catalogue_that_knows_frames_is_not_given_an_empty_folder(tmp_path):
    with pytest.raises(BadSetting, match="set DPU_DATABASE and DPU_STATE .* as they were together"):
        pair(Marks("m1", empty=False), MemoryStore(), FolderLabel(tmp_path), lambda: "m9")


def test_a_start_that_was_broken_off_is_begun_again(tmp_path):
    catalogue = Marks("m1")
    pair(catalogue, MemoryStore(), FolderLabel(tmp_path), lambda: "m2")
    assert (tmp_path / "catalogue.mark").read_text() == "m2\n"
    assert catalogue.mark() == "m2"
