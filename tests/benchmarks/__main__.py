"""Run benchmarks: a name, several names, or `all`; `--table` prints them as Markdown."""

from __future__ import annotations

import argparse
import compileall
import importlib
import pkgutil
import subprocess
import sys
from typing import TYPE_CHECKING

import tests.benchmarks as room
from dpud.hosting.logsetup import set_up_logging

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.figure import Figure

NOT_BENCHES = {"__main__", "figure", "standins"}
#: What an installation compiles once, and an edited checkout may not have.
SOURCES = ("protos", "client", "services")


def names() -> list[str]:
    """Return the benchmarks that there are."""
    return sorted(module.name for module in pkgutil.iter_modules(room.__path__) if module.name not in NOT_BENCHES)


def measure(bench: str) -> Iterator[Figure]:
    """Run one benchmark."""
    print(f"{bench} ...", file=sys.stderr)
    yield from importlib.import_module(f"tests.benchmarks.{bench}").figures()


def main() -> int:
    """Print what was asked for; 2 for a name that is none."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", default=["all"])
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    # Of services in this process, too: standard output is for figures.
    set_up_logging("benchmark")
    wanted = names() if "all" in options.names else options.names
    if unknown := set(wanted) - set(names()):
        print(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    for folder in SOURCES:
        compileall.compile_dir(folder, quiet=1)
    if options.table:
        table(wanted)
    else:
        for name in wanted:
            for figure in measure(name):
                print(figure.line(), flush=True)
    return 0


def table(wanted: list[str]) -> None:
    """Print bar, figure and commit as a Markdown table."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    print("| bench | figure | value | bar | peer | commit |\n|---|---|---|---|---|---|")
    for name in wanted:
        for figure in measure(name):
            peer = f"{figure.peer} {figure.peer_value:.4g}" if figure.peer and figure.peer_value else ""
            value = f"{figure.value:.4g} {figure.unit}"
            print(
                f"| {figure.bench} | {figure.figure} | {value} | {figure.bar} | {peer} | {commit.strip()} |", flush=True
            )


if __name__ == "__main__":
    sys.exit(main())
