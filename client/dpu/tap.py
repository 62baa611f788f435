"""Lists of stars from the catalogues of the world, over the Virtual Observatory's table access protocol (TAP)."""

from __future__ import annotations

import http.client
import shutil
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from dpu.errors import BadOption, Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: A dense field takes its time.
DEADLINE_S = 300.0
#: Stars of one question; a service cuts longer answers off without a word.
MOST = 1_000_000
_LARGEST_DEG = 5.0
#: Bytes of a refusal that are told.
_QUOTED = 300
_POLE = 90.0
_TURN = 360.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A catalogue of the world, and where it can be asked."""

    #: What its tables are called in the archive.
    name: str
    url: str
    table: str
    #: Its own columns, by the names that they are to have.
    columns: Mapping[str, str]

    def query(self, cone: Cone) -> str:
        """Return what asks for the stars in a cone, in ADQL."""
        columns = ", ".join(f"{own} AS {name}" for name, own in self.columns.items())
        ra, dec = self.columns["ra"], self.columns["dec"]
        within = f"CONTAINS(POINT('ICRS', {ra}, {dec}), CIRCLE('ICRS', {cone.ra!r}, {cone.dec!r}, {cone.radius!r}))"
        return f"SELECT TOP {MOST} {columns} FROM {self.table} WHERE 1 = {within}"  # noqa: S608 (numbers and names of ours)


@dataclass(frozen=True, slots=True)
class Cone:
    """A circle on the sky, degrees, ICRS."""

    ra: float
    dec: float
    radius: float

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Cone:
        """Return the cone of three numbers, checked. Raises BadOption."""
        try:
            ra, dec, radius = map(float, texts)
        except ValueError:
            raise BadOption(
                f"--around {' '.join(texts)}: three numbers are needed: RA, DEC and radius in degrees"
            ) from None
        if not (0 <= ra < _TURN and abs(dec) <= _POLE and 0 < radius <= _LARGEST_DEG):
            raise BadOption(
                f"--around {' '.join(texts)}: RA is 0 to 360, DEC -90 to 90, "
                f"the radius at most {_LARGEST_DEG:g} degrees"
            )
        return cls(ra, dec, radius)


SURVEYS: Mapping[str, Survey] = {
    "gaia": Survey(
        name="GAIA_DR3",
        url="https://gea.esac.esa.int/tap-server/tap",
        table="gaiadr3.gaia_source",
        columns={
            "ra": "ra",
            "dec": "dec",
            "pmra": "pmra",
            "pmdec": "pmdec",
            "ref_epoch": "ref_epoch",
            "source_id": "source_id",
            "ra_error": "ra_error",
            "dec_error": "dec_error",
            "phot_g_mean_mag": "phot_g_mean_mag",
            "phot_bp_mean_mag": "phot_bp_mean_mag",
            "phot_rp_mean_mag": "phot_rp_mean_mag",
        },
    ),
    "2mass": Survey(
        name="2MASS",
        url="https://tapvizier.cds.unistra.fr/TAPVizieR/tap",
        table='"II/246/out"',
        columns={
            "ra": "RAJ2000",
            "dec": "DEJ2000",
            "jmag": "Jmag",
            "e_jmag": "e_Jmag",
            "hmag": "Hmag",
            "e_hmag": "e_Hmag",
            "kmag": "Kmag",
            "e_kmag": "e_Kmag",
            "qflg": "Qflg",
        },
    ),
}


def fetch(survey: Survey, cone: Cone, file: Path, *, url: str = "") -> None:
    """Write the stars of a survey in a cone to a CSV file; `url` is of another service that has it.

    Raises Unreachable where the service gives no answer or refuses the question, and BadOption where there are more
    stars than come in one answer; nothing is left then.
    """
    asked = {"REQUEST": "doQuery", "LANG": "ADQL", "FORMAT": "csv", "MAXREC": str(MOST), "QUERY": survey.query(cone)}
    address = f"{(url or survey.url).rstrip('/')}/sync"
    request = urllib.request.Request(address, urllib.parse.urlencode(asked).encode())  # noqa: S310 (checked by main)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer, file.open("wb") as writing:  # noqa: S310
            shutil.copyfileobj(answer, writing)
    except urllib.error.HTTPError as error:
        file.unlink(missing_ok=True)
        said = " ".join(error.read(_QUOTED).decode("utf-8", "replace").split())
        raise Unreachable(f"{address} refused the question for {survey.name}: HTTP {error.code}: {said}") from error
    except (OSError, http.client.HTTPException) as error:
        file.unlink(missing_ok=True)
        raise Unreachable(
            f"{address} gives no answer ({error}): is there a network? A list that was fetched elsewhere comes in by "
            f"awe ingest-catalogue FILE --name {survey.name}"
        ) from error
    try:
        _check(survey, address, file)
    except BaseException:
        file.unlink()
        raise


def _check(survey: Survey, address: str, file: Path) -> None:
    """Refuse what is no list, although it came as an answer, and one that was cut off."""
    with file.open("rb") as reading:
        begin = reading.read(_QUOTED)
        rows = begin.count(b"\n") + sum(piece.count(b"\n") for piece in iter(partial(reading.read, 1 << 20), b"")) - 1
    if begin.lstrip().startswith(b"<"):
        said = " ".join(begin.decode("utf-8", "replace").split())
        raise Unreachable(f"{address} refused the question for {survey.name}: {said}")
    if rows >= MOST:
        raise BadOption(f"{survey.name} has {MOST} stars there or more: ask with a smaller radius, several times")
