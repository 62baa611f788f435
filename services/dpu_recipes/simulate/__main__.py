"""The command line: `python -m dpu_recipes.simulate FOLDER --instrument WFI --chips 3 --scale 0.25`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dpu_recipes.instrument import InstrumentError
from dpu_recipes.instruments import load
from dpu_recipes.night import BadNight as BadDate
from dpu_recipes.night import parse_night
from dpu_recipes.simulate import BadNight, Night, write_night
from dpu_recipes.simulate.flaw import FLAWS
from dpu_recipes.simulate.night import DOME_LIGHT, LAMP_DRIFT, SKY

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a night and say where it is; return 0, or 1 after one line about what is wrong."""
    asked = _parser().parse_args(arguments)
    try:
        night = _night(asked)
        truth = write_night(night, asked.folder)
    except (BadNight, BadDate, InstrumentError, OSError) as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 1
    counted = [(night.biases, "RawBiasFrame"), (night.domes, "RawDomeFlatFrame")]
    counted += [(night.twilights, "RawTwilightFlatFrame")] if night.twilights else []
    counted += [(night.sciences, "RawScienceFrame")] if night.sciences else []
    counted += [(night.standards, "RawStandardFrame")] if night.standards else []
    *first, last = [f"{count} {name}" for count, name in counted]
    frames = f"{', '.join(first)} and {last}"
    where = f"in {asked.folder}/raw, the truth in {asked.folder}/truth"
    print(f"{truth.instrument} {truth.night}: {frames} of {', '.join(truth.chips)} {where}")
    return 0


def _night(asked: argparse.Namespace) -> Night:
    instrument = load(asked.instruments).get(asked.instrument)
    chips = instrument.chip_names()
    if asked.chips is not None and not 1 <= asked.chips <= len(chips):
        raise BadNight(f"{asked.chips} chips were asked for: {instrument.name} has {len(chips)}")
    return Night(
        instrument=instrument,
        chips=chips[: asked.chips],
        scale=asked.scale,
        seed=asked.seed,
        biases=asked.biases,
        domes=asked.domes,
        dome_levels=tuple(asked.dome_levels),
        lamp_drift=asked.lamp_drift,
        nonlinearity=asked.nonlinearity,
        twilights=asked.twilights,
        dawn=asked.dawn,
        sciences=asked.sciences,
        standards=asked.standards,
        sky=asked.sky,
        fringes=asked.fringes,
        flaw=asked.flaw,
        date=parse_night(asked.night),
        filter=asked.filter,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dpu_recipes.simulate", description="Simulate a night of a mosaic.")
    parser.add_argument("folder", type=Path, help="new or empty: frames go to raw/ in it, the truth to truth/")
    parser.add_argument("--instrument", default="WFI", help="name of a known camera (default: %(default)s)")
    parser.add_argument("--instruments", type=Path, metavar="FOLDER", help="further TOML files of cameras")
    parser.add_argument("--chips", type=int, help="how many of its CCDs (default: all)")
    parser.add_argument("--scale", type=float, default=0.25, help="of each side of a CCD (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (default: %(default)s)")
    parser.add_argument("--biases", type=int, default=10, help="how many (default: %(default)s)")
    parser.add_argument("--domes", type=int, default=0, help="how many dome flats (default: %(default)s)")
    parser.add_argument("--dome-levels", type=float, nargs="+", default=[DOME_LIGHT], metavar="ADU", help="of them")
    parser.add_argument("--lamp-drift", type=float, default=LAMP_DRIFT, help="of its light (default: %(default)s)")
    parser.add_argument("--nonlinearity", type=float, default=0.0, help="light lost at 50,000 ADU (default: none)")
    parser.add_argument("--twilights", type=int, default=0, help="how many twilight flats (default: %(default)s)")
    parser.add_argument("--dawn", action="store_true", help="of a sky that grows brighter")
    parser.add_argument("--sciences", type=int, default=0, help="how many science exposures (default: %(default)s)")
    parser.add_argument("--standards", type=int, default=0, help="how many of a standard field (default: %(default)s)")
    parser.add_argument("--sky", type=float, default=SKY, metavar="ADU", help="its light (default: %(default)s)")
    parser.add_argument("--fringes", type=float, default=0.0, help="their rms, part of the sky (default: none)")
    parser.add_argument("--flaw", default="", help=f"what went wrong with them: {', '.join(FLAWS)}")
    parser.add_argument("--night", default="2000-04-28", help="the date of its evening (default: %(default)s)")
    parser.add_argument("--filter", default="#842", help="of the dome flats (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
