"""`python -m dpu_recipes`: what this tree of recipes can do, for the DPU's catalogue, and how it understands a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dpu_recipes.describe import describe

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Do what the command line asks and return the exit code."""
    asked = _parser().parse_args(arguments)
    if asked.command == "describe":
        sys.stdout.write(describe() + "\n")
        return 0
    return check(asked.files, asked.instruments, asked.instrument)


def check(files: Sequence[Path], folder: Path | None, instrument: str) -> int:
    """Print how each file is understood; return 1 where one is not, or where an instrument has limits of nothing."""
    from dpu_recipes.explanation import explain, refusal
    from dpu_recipes.exposure import BadExposure
    from dpu_recipes.instrument import InstrumentError
    from dpu_recipes.instruments import load
    from dpu_recipes.registry import strays

    try:
        known = load(folder)
    except InstrumentError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    strange = [line for instrument in known.values() for line in strays(instrument)]
    sys.stdout.writelines(f"{line}\n" for line in strange)
    code = int(bool(strange))
    for file in files:
        try:
            lines = list(explain(file, known, instrument=instrument))
        except BadExposure as error:
            lines, code = list(refusal(error, known)), 1
        except OSError as error:
            lines, code = [f"{file}: {error.strerror}"], 1
        sys.stdout.writelines(f"{line}\n" for line in lines)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dpu_recipes")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("describe", help="print the catalogue")
    checking = commands.add_parser("check", help="print how files are understood")
    checking.add_argument("files", metavar="FILE", nargs="+", type=Path)
    checking.add_argument("--instruments", metavar="FOLDER", type=Path, help="a folder of further instrument files")
    checking.add_argument("--instrument", metavar="NAME", default="", help="take the files for this one's")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
