"""Options of a sequence as arguments of a command, and back as the options of `run`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from dpu.errors import BadOption
from dpu.options import OURS
from dpu_api.v1.catalogue_pb2 import OptionKind

if TYPE_CHECKING:
    import argparse

    from dpu_api.v1 import catalogue_pb2 as pb

KIND = OptionKind
NUMBERS = {KIND.OPTION_KIND_INTEGER: int, KIND.OPTION_KIND_FLOAT: float}


def add_options(parser: argparse.ArgumentParser, sequence: pb.Sequence) -> None:
    """Add what `dpu run SEQUENCE` takes: the sequence's options, the DPU's, and how to wait."""
    own = parser.add_argument_group(f"options of {sequence.name}")
    for option in _taken(sequence):
        own.add_argument(
            *dict.fromkeys(flags(option)), dest=option.long_name, help=option.help or None, **_form(option)
        )
    dpu = parser.add_argument_group("options of the DPU")
    dpu.add_argument("--no-code", action="store_true", help="use the recipes of the cluster, not those of the checkout")
    dpu.add_argument("--time", type=float, metavar="SECONDS", help="how long a task may run")
    dpu.add_argument("--mem", type=int, metavar="MIB", help="how much memory a task may use")
    dpu.add_argument("--priority", type=int, help="-100 to 100: higher runs earlier, within your own jobs")
    dpu.add_argument("--dryrun", action="store_true", help="plan everything, make nothing")
    waiting = parser.add_mutually_exclusive_group()
    waiting.add_argument("--wait", action="store_true", help="wait for the end; the exit code tells it")
    waiting.add_argument("--follow", action="store_true", help="the same, with the log")


def flags(option: pb.Option) -> tuple[str, str]:
    """Return how an option is called in a shell: ('-i', '--instrument'), ('--oc', '--overscan')."""
    short = option.short_name
    return ("-" if len(short) == 1 else "--") + short, "--" + option.long_name.replace("_", "-")


def given(sequence: pb.Sequence, chosen: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `run` that a command line means. Raises BadOption for a parameter without a value."""
    options = {option.long_name: getattr(chosen, option.long_name) for option in _taken(sequence)}
    options = {name: value for name, value in options.items() if value is not None}
    if "pars" in options:
        options["pars"] = dict(map(_pair, options["pars"]))
    own = {"dpu_time": chosen.time, "dpu_mem": chosen.mem, "dpu_priority": chosen.priority}
    own |= {"dpu_dryrun": True if chosen.dryrun else None, "send_code": False if chosen.no_code else None}
    return options | {name: value for name, value in own.items() if value is not None}


def _taken(sequence: pb.Sequence) -> list[pb.Option]:
    return [option for option in sequence.options if option.long_name not in OURS]


def _form(option: pb.Option) -> dict[str, Any]:
    """Return how argparse takes an option. What is no number is told by `run`, with its name and value."""
    match option.kind:
        case KIND.OPTION_KIND_FLAG:
            return {"nargs": "?", "const": 1, "type": _number, "metavar": "0|1"}
        case KIND.OPTION_KIND_LIST:
            return {"nargs": "+", "metavar": "NAME"}
        case KIND.OPTION_KIND_PARAMETERS:
            return {"action": "append", "metavar": "NAME=VALUE"}
        case kind if kind in NUMBERS:
            return {"type": _number, "metavar": "NUMBER"}
        case KIND.OPTION_KIND_DATE:
            return {"metavar": "CCYY-MM-DD"}
        case _:
            return {"metavar": "TEXT"}


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise BadOption(f"-p {text!r}: must be NAME=VALUE, as in BiasFrame.process_params.SIGMA_CLIP=5.0")
    return name, _number(value)


def _number(text: str) -> int | float | str:
    """Return the number that a text says, or the text."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
