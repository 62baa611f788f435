"""`awe ingest-catalogue`: brings a list of stars into the archive, as a reference catalogue."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dpu.errors import BadOption
from dpu.ingest import take
from dpu_api.v1.archive_pb2 import IngestFile

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run `awe ingest-catalogue` and return its exit code: 1 where a list was refused."""
    from dpu.processor import Processor
    from dpu.report import Reporter

    asked = _parser().parse_args(arguments)
    says = IngestFile(catalogue=asked.name, columns=dict(map(_pair, asked.column)))
    reporter = Reporter()
    link = Processor(reporter=reporter).link
    code = 0
    for path in asked.files:
        outcome = take(link, path, says)
        tables = f"{outcome.frames} table{'s' * (outcome.frames != 1)}"
        word = "already there" if outcome.already else f"{tables} of {asked.name}"
        reporter.say(f"{path.name}: {f'refused: {outcome.reason}' if outcome.reason else word}")
        code |= bool(outcome.reason)
    return code


def _pair(text: str) -> tuple[str, str]:
    role, equals, name = text.partition("=")
    if not (role and equals and name):
        raise BadOption(f"--column {text!r}: must be ROLE=NAME, as in RA=alpha")
    return role, name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="awe ingest-catalogue",
        description="Bring lists of stars, FITS tables or CSV, into the archive for astrometry and photometry.",
        epilog="exit codes: 0 all are in, 1 a list was refused, 2 used wrongly, 4 the DPU cannot be reached",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    parser.add_argument("--name", required=True, help="of the catalogue; lists of one name add up")
    parser.add_argument(
        "--column",
        metavar="ROLE=NAME",
        action="append",
        default=[],
        help="which column is RA, DEC (degrees or sexagesimal, ICRS), PMRA, PMDEC (mas/yr) or EPOCH (years)",
    )
    return parser
