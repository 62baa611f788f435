"""`awe instrument check`: says how a FITS file is understood, before it is ingested."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dpu.errors import BadTree
from dpu.local import INSTRUMENTS, default_home

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run `awe instrument` and return its exit code: 1 where a file is not understood."""
    asked = _parser().parse_args(arguments)
    command = [sys.executable, "-m", "dpu_recipes", "check", *map(str, asked.files)]
    own = default_home() / INSTRUMENTS
    if folder := asked.instruments or (own if own.is_dir() else None):
        command += ["--instruments", str(folder)]
    if asked.instrument:
        command += ["--instrument", asked.instrument]
    # The recipes are loaded by a process of their own: this one need not have them.
    try:
        done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)  # noqa: S603 (our own program)
    except OSError as error:
        raise BadTree(f"Python could not be started: {error.strerror}") from error
    if done.returncode not in {0, 1}:
        reason = (done.stderr.strip().splitlines() or [f"it ended with exit code {done.returncode}"])[-1]
        raise BadTree(f"files cannot be understood here: {reason}")
    return done.returncode


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="awe instrument", description="The cameras that the recipes understand.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    check = commands.add_parser(
        "check",
        help="say how a file is understood",
        description="Say whose a FITS file is, what its frames are, and which card or rule says so.",
        epilog="exit codes: 0 all are understood, 1 one is not, 2 used wrongly",
    )
    check.add_argument("files", metavar="FILE", nargs="+", type=Path)
    check.add_argument(
        "--instruments",
        metavar="FOLDER",
        type=Path,
        help=f"further instrument files (default: {INSTRUMENTS}/ in the DPU's own)",
    )
    check.add_argument("--instrument", metavar="NAME", default="", help="take the files for this camera's")
    return parser
