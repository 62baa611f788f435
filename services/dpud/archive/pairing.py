"""Holds a catalogue and its files together: to another catalogue's sweep every file would be an orphan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dpud.archive.store_files import refusing, write_durably
from dpud.hosting.settings import BadSetting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dpud.archive.coldlist import ColdList
    from dpud.archive.store import Store


class Marked(Protocol):
    """A catalogue that carries the mark of its files."""

    def mark(self) -> str:
        """Return the mark, '' where it has none yet."""
        ...

    def set_mark(self, mark: str) -> None:
        """Carry another mark."""
        ...

    def is_empty(self) -> bool:
        """Return whether it knows of no frame."""
        ...


class Label(Protocol):
    """What is written beside files: the mark of their catalogue."""

    #: Which setting says where they are, and its value, for messages.
    setting: str

    def read(self) -> str:
        """Return the mark, '' where there is none."""
        ...

    def write(self, mark: str) -> None:
        """Write the mark, durably."""
        ...


class FolderLabel:
    """The mark as a file in a folder of the archive's own, which a setting names."""

    def __init__(self, folder: Path, key: str = "DPU_STATE") -> None:
        self._folder = folder
        self._file = folder / "catalogue.mark"
        self.setting = f"{key}={str(folder)!r}"

    def read(self) -> str:
        """Return the mark."""
        return self._file.read_text().strip() if self._file.exists() else ""

    def write(self, mark: str) -> None:
        """Write the mark."""
        with refusing(self._folder):
            write_durably(self._file, mark.encode() + b"\n")


def pair(catalogue: Marked, store: Store, label: Label, new_mark: Callable[[], str]) -> None:
    """Return if catalogue and files carry the same mark, or neither has anything to lose: then both get a new one.

    Raises BadSetting.
    """
    of_files, of_catalogue = label.read(), catalogue.mark()
    if of_files == of_catalogue != "":
        return
    if of_files or of_catalogue or catalogue.is_empty():
        _refuse_strangers(catalogue, store, label)
    # Else the catalogue is from before there were marks, and lies among its files.
    mark = new_mark()
    catalogue.set_mark(mark)
    label.write(mark)


def pair_cold(mark: str, cold_list: ColdList, store: Store, label: Label) -> None:
    """Return if the cold tier carries the catalogue's mark, which an empty one is given. Raises BadSetting."""
    if (found := label.read()) == mark:
        return
    if found or next(store.digests(), None) is not None or cold_list.totals().cold.files:
        raise BadSetting(
            f"{label.setting}: that is not the cold tier of this catalogue, whose frames would be lost there: "
            "set it as it was when they were frozen, or name an empty place if none was"
        )
    label.write(mark)


def _refuse_strangers(catalogue: Marked, store: Store, label: Label) -> None:
    if next(store.digests(), None) is not None or not catalogue.is_empty():
        raise BadSetting(
            f"{label.setting}: its files are not those of this catalogue, and would be taken for orphans: "
            "set DPU_DATABASE and DPU_STATE (or DPU_FILES) as they were together, or begin with an empty database "
            "in an empty place"
        )
