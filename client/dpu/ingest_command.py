"""`awe ingest`: brings raw FITS files into the archive, and tells how far it is."""

from __future__ import annotations

import argparse
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dpu.errors import UsageError
from dpu.ingest import find_files, ingest, without_companions
from dpu.watch import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dpu.ingest import Outcome
    from dpu.report import Reporter


@contextmanager
def progress(total: int, reporter: Reporter) -> Iterator[Callable[[Outcome], None]]:
    """Give what shows each outcome: it moves a bar on a terminal, and prints a line elsewhere."""
    if not (reporter.out or sys.stdout).isatty():
        count = iter(range(1, total + 1))
        yield lambda outcome: reporter.say(f"{next(count)}/{total} {outcome.path.name}: {outcome.word}")
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=reporter.out)) as bars:
        bar = bars.add_task("Ingesting", total=total)
        yield lambda outcome: bars.update(bar, advance=1, description=f"Ingesting {outcome.path.name}")


def main(arguments: Sequence[str]) -> int:
    """Run `awe ingest` and return its exit code: 1 where a file was refused."""
    from dpu.processor import Processor
    from dpu.report import Reporter

    asked = _parser().parse_args(arguments)
    reporter = Reporter()
    if asked.watch and asked.frame_class:
        raise UsageError("--watch and --as do not go together: what belongs to an image may come after it")
    if asked.watch:
        return watch(Processor(reporter=reporter).link, asked.paths, reporter, instrument=asked.instrument)
    files = find_files(asked.paths)
    if asked.frame_class:
        files = without_companions(files)
    link = Processor(reporter=reporter).link
    with progress(len(files), reporter) as done:
        summary = ingest(link, files, done, instrument=asked.instrument, frame_class=asked.frame_class)
    for line in summary.lines():
        reporter.say(line)
    return 1 if summary.refused else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="awe ingest",
        description="Bring raw FITS files into the archive: single, multi-extension or Rice-compressed.",
        epilog="exit codes: 0 all are in, 1 a file was refused, 2 used wrongly, 4 the DPU cannot be reached",
    )
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="a file, or a folder with FITS files")
    parser.add_argument("--watch", action="store_true", help="go on until Ctrl-C with what appears in the folders")
    parser.add_argument(
        "--instrument", metavar="NAME", default="", help="the camera that took them, whatever their headers say"
    )
    parser.add_argument(
        "--as",
        dest="frame_class",
        choices=["ReducedScienceFrame"],
        default="",
        help="they were reduced elsewhere; NAME.weight.fits, NAME.mask.fits and NAME.psf beside NAME.fits come with it",
    )
    return parser
