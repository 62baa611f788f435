"""The stars of a reference catalogue about a position: from the archive, or from a list that ships with the recipes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dpu_recipes import reference_file
from dpu_recipes.archive import ArchiveError, Selection
from dpu_recipes.sky.zones import in_cone, tiles_of_cone

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from dpu_recipes.archive import Archive

#: Lists that ship, by name. A catalogue of that name in the archive wins.
SHIPPED: Final = {"LANDOLT": Path(__file__).parent / "catalogues" / "LANDOLT.csv"}
_J2000: Final = 2000.0
_TURN: Final = 360.0
_MAS_A_DEGREE: Final = 3.6e6


def stars(
    archive: Archive, catalogue: str, centre: tuple[float, float], radius: float, *, epoch: float | None = None
) -> npt.NDArray[Any]:
    """Return the rows of a catalogue in a cone, a structured array in order of DEC.

    Parameters
    ----------
    archive : where the catalogue was ingested.
    catalogue : its name.
    centre, radius : RA and DEC (ICRS), and the angle around it, degrees.
    epoch : year to which positions are brought by the proper motions (mas a year), where the catalogue has some;
        None: as they are. The cone is cut before.

    Raises
    ------
    ArchiveError : there is no such catalogue.
    """
    near = [_near(table, centre, radius) for table in _tables(archive, catalogue, centre, radius)]
    common = [name for name in near[0].dtype.names or () if all(name in (table.dtype.names or ()) for table in near)]
    found = np.concatenate([table[common] for table in near])
    if epoch is not None:
        found = _moved(found, epoch)
    return np.asarray(found[np.argsort(found["DEC"], kind="stable")])


def _tables(archive: Archive, catalogue: str, centre: tuple[float, float], radius: float) -> Iterator[npt.NDArray[Any]]:
    """Yield the tables that may have stars of a cone: at least one. Raises ArchiveError."""
    tiles = (reference_file.WHOLE, *(f"{tile:04d}" for tile in tiles_of_cone(*centre, radius)))
    everywhere = Selection(instrument=reference_file.SKY, object=catalogue)
    here = Selection(instrument=reference_file.SKY, object=catalogue, chips=tiles)
    frames = archive.select(reference_file.REFERENCE, here)
    if not frames:
        frames = archive.select(reference_file.REFERENCE, everywhere)[:1]
    if frames:
        for frame in frames:
            yield _opened(archive.open(frame))
    elif catalogue in SHIPPED:
        yield _shipped(catalogue)
    else:
        raise ArchiveError(
            f"there is no reference catalogue {catalogue!r}: "
            f"`awe ingest-catalogue FILE --name {catalogue}` brings one in"
        )


def _opened(path: Path) -> npt.NDArray[Any]:
    from astropy.io import fits

    with fits.open(path, memmap=False) as units:
        return np.asarray(units[1].data)


@cache
def _shipped(catalogue: str) -> npt.NDArray[Any]:
    return reference_file.read(SHIPPED[catalogue], {})


def _near(table: npt.NDArray[Any], centre: tuple[float, float], radius: float) -> npt.NDArray[Any]:
    ra, dec = (np.asarray(table[name], dtype=np.float64) for name in ("RA", "DEC"))
    return np.asarray(table[in_cone(ra, dec, centre, radius)])


def _moved(table: npt.NDArray[Any], epoch: float) -> npt.NDArray[Any]:
    """Return a copy whose positions are those at `epoch`; stars without a proper motion stay."""
    names = table.dtype.names or ()
    if "PMRA" not in names or "PMDEC" not in names:
        return table
    moved = table.copy()
    years = epoch - (table["EPOCH"].astype(float) if "EPOCH" in names else _J2000)
    moved["DEC"] = table["DEC"] + np.nan_to_num(table["PMDEC"] * years) / _MAS_A_DEGREE
    # The motion in right ascension is an angle on the sky.
    along = np.nan_to_num(table["PMRA"] * years) / _MAS_A_DEGREE
    moved["RA"] = (table["RA"] + along / np.cos(np.radians(table["DEC"]))) % _TURN
    return moved
