"""Holds a catalogue and its files together: to another catalogue's sweep every file would be an orphan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dpud.archive.store_files import refusing, write_durably
from dpud.hosting.settings import BadSetting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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


def pair(catalogue: Marked, store: Store, state: Path, new_mark: Callable[[], str]) -> None:
    """Return if catalogue and files carry the same mark, or neither has anything to lose: then both get a new one.

    Raises BadSetting.
    """
    file = state / "catalogue.mark"
    of_files = file.read_text().strip() if file.exists() else ""
    of_catalogue = catalogue.mark()
    if of_files == of_catalogue != "":
        return
    if of_files or of_catalogue or catalogue.is_empty():
        _refuse_strangers(catalogue, store, state)
    # Else the catalogue is from before there were marks, and lies among its files.
    mark = new_mark()
    catalogue.set_mark(mark)
    with refusing(state):
        write_durably(file, mark.encode() + b"\n")


def _refuse_strangers(catalogue: Marked, store: Store, state: Path) -> None:
    if next(store.digests(), None) is not None or not catalogue.is_empty():
        raise BadSetting(
            f"DPU_STATE={str(state)!r}: its files are not those of this catalogue, and would be taken for orphans: "
            "set DPU_DATABASE and DPU_STATE as they were together, or begin with an empty database in an empty folder"
        )
