"""The instruments that are known: those whose files are here, and those of a folder that a user names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dpu_recipes import header as headers
from dpu_recipes.instrument import Instrument, InstrumentError, shortened
from dpu_recipes.instrument_toml import read

if TYPE_CHECKING:
    from dpu_recipes.header import Header

_HERE: Final = Path(__file__).parent


class Instruments(Mapping[str, Instrument]):
    """The known instruments by name."""

    def __init__(self, instruments: Mapping[str, Instrument]) -> None:
        self._instruments = dict(sorted(instruments.items()))

    def __getitem__(self, name: str) -> Instrument:
        return self._instruments[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._instruments)

    def __len__(self) -> int:
        return len(self._instruments)

    def names(self) -> tuple[str, ...]:
        """Return the known names, sorted."""
        return tuple(self._instruments)

    def get(self, name: str) -> Instrument:  # type: ignore[override]  # an unknown instrument is an error that helps
        """Return an instrument by name. Raises InstrumentError, which lists the known ones."""
        try:
            return self._instruments[name]
        except KeyError:
            raise InstrumentError(f"instrument {name!r} is not one of {shortened(self.names())}") from None

    def recognise(self, header: Header) -> Instrument:
        """Return the instrument that a header is of. Raises InstrumentError where none or more than one fits."""
        found = [instrument for instrument in self.values() if instrument.is_of(header)]
        if len(found) == 1:
            return found[0]
        said = headers.text(header, ["INSTRUME"])
        if found:
            names = shortened(tuple(instrument.name for instrument in found))
            raise InstrumentError(f"INSTRUME={said!r} fits more than one instrument: {names}")
        what = f"INSTRUME={said!r} is" if said else "its header has no INSTRUME and is"
        raise InstrumentError(f"{what} of no known instrument ({shortened(self.names())})")


def load(extra: Path | None = None) -> Instruments:
    """Return the instruments that ship with the recipes, and those of the folder `extra`, which win.

    Raises InstrumentError, which names file, key and value.
    """
    folders = [_HERE] if extra is None else [_HERE, extra]
    if extra is not None and not extra.is_dir():
        raise InstrumentError(f"{extra} is no folder of instrument files")
    found = [_read_once(path) for folder in folders for path in sorted(folder.glob("*.toml"))]
    return Instruments({instrument.name: instrument for instrument in found})


def _read_once(path: Path) -> Instrument:
    """Return what a file describes, read again only where it has changed: every task asks for its instrument."""
    status = path.stat()
    return _read(path, status.st_ino, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=128)
def _read(path: Path, *_status: int) -> Instrument:
    return read(path)
