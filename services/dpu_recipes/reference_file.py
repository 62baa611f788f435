"""Reads a list of stars, FITS or CSV, and writes it as tables of one tile of the sky each, in order of declination."""

from __future__ import annotations

import csv
import hashlib
import re
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from astropy.io import fits

from dpu_recipes import header as headers
from dpu_recipes.frames import Frame
from dpu_recipes.sky.zones import tile_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

#: Class and instrument of the frames that hold such tables.
REFERENCE: Final = "ReferenceCatalogue"
SKY: Final = "SKY"
#: The one tile of a list that is not worth cutting up.
WHOLE: Final = "all"
_LARGE: Final = 50_000
#: Our names, with what lists call them, in small letters.
ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "RA": ("ra", "ra_icrs", "raj2000", "_raj2000", "ra_deg", "alpha_j2000"),
    "DEC": ("dec", "de_icrs", "dej2000", "_dej2000", "dec_deg", "delta_j2000"),
    "PMRA": ("pmra",),
    "PMDEC": ("pmdec", "pmde"),
    "EPOCH": ("epoch", "ref_epoch"),
}
_J2000: Final = datetime(2000, 1, 1, 12, tzinfo=UTC)
_NAME: Final = re.compile(r"[A-Za-z0-9_.+-]{1,40}")
_POLE: Final = 90.0


class BadCatalogue(Exception):
    """A file is no list of stars; the message says why, in one line."""


def read(file: Path, columns: Mapping[str, str]) -> npt.NDArray[Any]:
    """Return the rows of a list in order of declination: RA and DEC in degrees (ICRS), and all else that it has.

    `columns` says which column has a role of ours (RA, DEC, PMRA, PMDEC in mas a year, EPOCH in years), where its name
    does not. Raises BadCatalogue.
    """
    found = dict(_fits_columns(file) if _is_fits(file) else _csv_columns(file))
    if not found or not len(next(iter(found.values()))):
        raise BadCatalogue("holds no rows")
    named = _named(found, columns)
    for role in ("RA", "DEC"):
        if role not in named:
            raise BadCatalogue(
                f"has no column for {role} (it has {', '.join(found)}): name it with --column {role}=NAME"
            )
        named[role] = _degrees(named[role], role)
    order = np.argsort(named["DEC"], kind="stable")
    table = np.empty(len(order), dtype=[(name, values.dtype) for name, values in named.items()])
    for name, values in named.items():
        table[name] = values[order]
    return table


def split(file: Path, catalogue: str, columns: Mapping[str, str], folder: Path) -> list[tuple[Frame, Path]]:
    """Write a list as one FITS table a tile in `folder`, and describe each. The same list gives the same bytes.

    Raises BadCatalogue, and OSError where the folder cannot be written.
    """
    if not _NAME.fullmatch(catalogue):
        raise BadCatalogue(f"{catalogue!r} is no name of a catalogue: up to 40 letters, digits, and _ . + -")
    table = read(file, columns)
    tiles = tile_of(table["RA"], table["DEC"])
    if len(table) < _LARGE:
        return [_write(table, catalogue, WHOLE, folder)]
    return [_write(table[tiles == tile], catalogue, f"{tile:04d}", folder) for tile in np.unique(tiles)]


def _write(table: npt.NDArray[Any], catalogue: str, tile: str, folder: Path) -> tuple[Frame, Path]:
    path = folder / f"{catalogue}.{tile}.fits"
    fits.BinTableHDU(table, name=catalogue.upper()).writeto(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    frame = Frame(
        id=digest,
        frame_class=REFERENCE,
        instrument=SKY,
        chip=tile,
        object=catalogue,
        night=date(2000, 1, 1),
        date_obs=_J2000,
        # Of one tile there may be several tables: lists grow.
        file_name=f"{catalogue}.{tile}.{digest[:8]}.fits",
        digest=digest,
        size=path.stat().st_size,
        values={"ROWS": len(table), "COLUMNS": list(table.dtype.names or ())},
    )
    return frame, path


def _is_fits(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(9) == b"SIMPLE  ="


def _fits_columns(file: Path) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    with fits.open(file, memmap=False) as units:
        unit = next((item for item in units if isinstance(item, fits.BinTableHDU)), None)
        if unit is None:
            raise BadCatalogue("is a FITS file without a table")
        for name in unit.columns.names:
            values = np.asarray(unit.data[name])
            if values.ndim == 1 and values.dtype.kind in "iufSUb":
                yield name, values.astype(values.dtype.newbyteorder("="))


def _csv_columns(file: Path) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(line for line in stream if line.strip() and not line.startswith("#"))
            lists: dict[str, list[str]] = {name.strip(): [] for name in rows.fieldnames or ()}
            for number, row in enumerate(rows, 1):
                if None in row or None in row.values():
                    raise BadCatalogue(f"row {number} has not the {len(lists)} columns of the first line")
                for name, value in row.items():
                    lists[name.strip()].append(value.strip())
    except UnicodeDecodeError as error:
        raise BadCatalogue(f"is neither FITS nor text: {error}") from error
    for name, values in lists.items():
        yield name, _column(values)


def _column(texts: list[str]) -> npt.NDArray[Any]:
    """Return a column as whole numbers, of which identifiers need every digit, else as numbers, else as texts."""
    try:
        return np.array([int(text) for text in texts], dtype=np.int64)
    except (ValueError, OverflowError):
        pass
    try:
        return np.array([float(text) if text else np.nan for text in texts])
    except ValueError:
        return np.array(texts)


def _named(found: Mapping[str, npt.NDArray[Any]], columns: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
    """Return the columns by our names where they have one, by their own in capitals else."""
    asked = {}
    for role, name in columns.items():
        if role not in ROLES:
            raise BadCatalogue(f"--column {role}={name}: it is not one of {', '.join(ROLES)}")
        if name not in found:
            raise BadCatalogue(f"--column {role}={name}: there is no such column: it has {', '.join(found)}")
        asked[name] = role
    guessed = {name: role for name in found for role, known in ROLES.items() if name.lower() in known}
    roles = {name: role for name, role in guessed.items() if role not in columns} | asked
    named = {roles[name]: values for name, values in found.items() if name in roles}
    others = {name.upper(): values for name, values in found.items() if name not in roles}
    return named | {name: values for name, values in others.items() if name not in named}


def _degrees(values: npt.NDArray[Any], role: str) -> npt.NDArray[np.float64]:
    """Return positions as degrees, from numbers or from texts such as '13:25:39'. Raises BadCatalogue."""
    if values.dtype.kind in "SU":
        texts = [str(value) for value in values.astype(str)]
        values = np.array([headers.angle({role: text}, [role], hours=role == "RA") for text in texts], dtype=float)
    degrees = values.astype(np.float64)
    good = np.isfinite(degrees) & ((np.abs(degrees) <= _POLE) if role == "DEC" else (np.abs(degrees) <= 4 * _POLE))
    if not good.all():
        place = int(np.flatnonzero(~good)[0])
        raise BadCatalogue(
            f"{role} of row {place + 1} is {degrees[place]}: degrees are needed, or hh:mm:ss and dd:mm:ss"
        )
    return degrees
