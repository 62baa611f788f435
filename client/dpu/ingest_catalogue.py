"""`awe ingest-catalogue`: brings a list of stars into the archive, as a reference catalogue."""

from __future__ import annotations

import argparse
import urllib.parse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from dpu.errors import BadOption, UsageError
from dpu.ingest import take
from dpu.tap import SURVEYS, Cone, fetch
from dpu_api.v1.archive_pb2 import IngestFile

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run `awe ingest-catalogue` and return its exit code: 1 where a list was refused."""
    from dpu.processor import Processor
    from dpu.report import Reporter

    asked = _parser().parse_args(arguments)
    _check(asked)
    says = IngestFile(catalogue=asked.name, columns=dict(map(_pair, asked.column)))
    reporter = Reporter()
    with TemporaryDirectory() as folder:
        files = [_fetched(asked, Path(folder))] if asked.survey else asked.files
        says.catalogue = asked.name or SURVEYS[asked.survey].name
        link = Processor(reporter=reporter).link
        outcomes = [take(link, path, says) for path in files]
    for outcome in outcomes:
        tables = f"{outcome.frames} table{'s' * (outcome.frames != 1)}"
        word = "already there" if outcome.already else f"{tables} of {says.catalogue}"
        reporter.say(f"{outcome.path.name}: {f'refused: {outcome.reason}' if outcome.reason else word}")
    return int(any(outcome.reason for outcome in outcomes))


def _check(asked: argparse.Namespace) -> None:
    """Raise UsageError where it is not one of the two: files with a name, or a survey with a place."""
    if asked.survey and (asked.files or not asked.around):
        raise UsageError("--from SURVEY takes no files, and --around RA DEC RADIUS")
    if not asked.survey and not (asked.files and asked.name):
        raise UsageError("files are needed with --name NAME, or --from SURVEY with --around RA DEC RADIUS")


def _fetched(asked: argparse.Namespace, folder: Path) -> Path:
    """Return the list of a survey's stars, as it came."""
    survey, cone = SURVEYS[asked.survey], Cone.parse(asked.around)
    url = urllib.parse.urlsplit(asked.tap)
    if asked.tap and url.scheme not in ("http", "https"):
        raise BadOption(f"--tap {asked.tap!r}: must be the http or https URL of a TAP service")
    file = folder / f"{survey.name}.csv"
    fetch(survey, cone, file, url=asked.tap)
    return file


def _pair(text: str) -> tuple[str, str]:
    role, equals, name = text.partition("=")
    if not (role and equals and name):
        raise BadOption(f"--column {text!r}: must be ROLE=NAME, as in RA=alpha")
    return role, name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="awe ingest-catalogue",
        description="Bring lists of stars, FITS tables or CSV, into the archive for astrometry and photometry.",
        usage="%(prog)s FILE... --name NAME | --from SURVEY --around RA DEC RADIUS",
        epilog="exit codes: 0 all are in, 1 a list was refused, 2 used wrongly, 4 the DPU cannot be reached",
    )
    parser.add_argument("files", metavar="FILE", nargs="*", type=Path)
    parser.add_argument("--name", default="", help="of the catalogue; lists of one name add up")
    parser.add_argument(
        "--from",
        dest="survey",
        choices=sorted(SURVEYS),
        default="",
        help="fetch the stars of a survey, over the network",
    )
    parser.add_argument("--around", nargs=3, metavar=("RA", "DEC", "RADIUS"), help="where: degrees, ICRS")
    parser.add_argument("--tap", metavar="URL", default="", help="another TAP service that has the survey's table")
    parser.add_argument(
        "--column",
        metavar="ROLE=NAME",
        action="append",
        default=[],
        help="which column is RA, DEC (degrees or sexagesimal, ICRS), PMRA, PMDEC (mas/yr) or EPOCH (years)",
    )
    return parser
