"""`python -m dpu_recipes describe`: print what this tree of recipes can do, for the DPU's catalogue."""

from __future__ import annotations

import sys

from dpu_recipes.describe import describe


def main(arguments: list[str]) -> int:
    """Do what the command line asks and return the exit code."""
    if arguments != ["describe"]:
        sys.stderr.write("usage: python -m dpu_recipes describe\n")
        return 2
    sys.stdout.write(describe() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
