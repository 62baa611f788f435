"""Sequences as data: what a tree of recipes can do, and whether a call of it makes sense.

The scheduler never runs a recipe: what it knows of one came with the job, from people it does not trust.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from collections.abc import Sequence as Listing
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum

from dpu.errors import BadOption, UnknownOption, UnknownSequence, UsageError

#: A plan of more is not taken.
MAX_TASKS = 100_000
MAX_STAGES = 100
MAX_PRIORITY = 100
MAX_NAME = 200
#: Of what a person calls code, characters.
MAX_DESCRIPTION = 500


class OptionKind(IntEnum):
    """What an option's value looks like; numbered as dpu_api.v1.OptionKind."""

    TEXT = 1
    INTEGER = 2
    FLOAT = 3
    FLAG = 4
    DATE = 5
    LIST = 6
    PARAMETERS = 7


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a sequence."""

    short_name: str
    long_name: str
    kind: OptionKind
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """The tasks of one recipe, within a sequence."""

    recipe: str
    #: Declared figures of one task.
    seconds: float = 0.0
    memory_mib: int = 0
    #: Whether the next stage may go on with the tasks that succeeded.
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    """What one call of dpu.run names: stages in the order in which they run."""

    name: str
    stages: tuple[Stage, ...]
    options: tuple[Option, ...] = ()
    one_of: tuple[str, ...] = ()
    #: Names of the process parameters of all its stages.
    parameters: frozenset[str] = frozenset()


def check_sequence(sequence: Sequence) -> None:
    """Raise UnknownSequence or UsageError unless the description can be run."""
    if not sequence.name or len(sequence.name) > MAX_NAME:
        raise UnknownSequence(f"a sequence needs a name of 1 to {MAX_NAME} characters, not {sequence.name[:40]!r}")
    if not 1 <= len(sequence.stages) <= MAX_STAGES:
        raise UsageError(f"{sequence.name} has {len(sequence.stages)} stages: it needs 1 to {MAX_STAGES}")
    for stage in sequence.stages:
        if not stage.recipe:
            raise UsageError(f"a stage of {sequence.name} names no recipe")
        check_figures(f"stage {stage.recipe} of {sequence.name}", stage.seconds, stage.memory_mib)


def check_figures(what: str, seconds: float, memory_mib: int) -> None:
    """Raise UsageError unless a time and an amount of memory are ones that something can have."""
    if not (math.isfinite(seconds) and seconds >= 0):
        raise UsageError(f"{what}: {seconds!r} s is no time to run; give seconds from 0 up")
    if memory_mib < 0:
        raise UsageError(f"{what}: {memory_mib!r} MiB is no amount of memory; give MiB from 0 up")


def check_description(description: str) -> None:
    """Raise UsageError unless a description of code can be part of a line of a log."""
    if len(description) > MAX_DESCRIPTION or not description.isprintable():
        raise UsageError(
            f"code_description={description[:80]!r}: must be one line of at most {MAX_DESCRIPTION} characters"
        )


def check_options(sequence: Sequence, given: Mapping[str, object]) -> None:
    """Raise UnknownOption or BadOption unless `given`, by long names, fits the sequence."""
    options = {option.long_name: option for option in sequence.options}
    for name, value in given.items():
        if name not in options:
            raise UnknownOption(f"{sequence.name} has no option {name!r}{_nearest(name, options)}")
        _check_value(options[name], value)
    parameters = given.get("pars")
    if isinstance(parameters, Mapping):
        _check_parameters(sequence, parameters)
    if sequence.one_of and not any(_is_given(given.get(name)) for name in sequence.one_of):
        names = ", ".join(sequence.one_of)
        raise BadOption(f"{sequence.name} needs at least one of: {names}")


def _is_given(value: object) -> bool:
    return value is not None and value not in ("", [], {})


def _nearest(name: str, known: Mapping[str, object] | frozenset[str]) -> str:
    close = get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f" (it has: {', '.join(sorted(known))})" if known else " (it has none)"


def _check_value(option: Option, value: object) -> None:
    """Raise BadOption unless the value is of the option's kind and within its bounds."""
    if value is None:
        return
    expected = _MISFITS[option.kind](value)
    if expected:
        raise BadOption(f"{option.long_name}={value!r}: must be {expected}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        _check_bounds(option, value)


def _check_bounds(option: Option, value: float) -> None:
    low = -math.inf if option.minimum is None else option.minimum
    high = math.inf if option.maximum is None else option.maximum
    if not low <= value <= high:
        raise BadOption(f"{option.long_name}={value!r}: must be from {low:g} to {high:g}")


def _text(value: object) -> str:
    return "" if isinstance(value, str) else "a text"


def _integer(value: object) -> str:
    return "" if isinstance(value, int) and not isinstance(value, bool) else "a whole number"


def _float(value: object) -> str:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return "" if good else "a number"


def _flag(value: object) -> str:
    return "" if isinstance(value, int) and value in (0, 1) else "0 or 1"


def _date(value: object) -> str:
    if value == "":
        return ""
    try:
        dt.date.fromisoformat(str(value))
    except ValueError:
        return "a date 'CCYY-MM-DD', the night that begins that evening"
    return "" if isinstance(value, str) else "a text 'CCYY-MM-DD'"


def _list(value: object) -> str:
    if isinstance(value, str):
        return ""
    good = isinstance(value, Listing) and all(isinstance(item, str) for item in value)
    return "" if good else "a text or a list of texts"


def _parameters(value: object) -> str:
    return "" if isinstance(value, Mapping) else "a dictionary of process parameters"


#: What is expected instead; empty where the value is right.
_MISFITS = {
    OptionKind.TEXT: _text,
    OptionKind.INTEGER: _integer,
    OptionKind.FLOAT: _float,
    OptionKind.FLAG: _flag,
    OptionKind.DATE: _date,
    OptionKind.LIST: _list,
    OptionKind.PARAMETERS: _parameters,
}


def _check_parameters(sequence: Sequence, parameters: Mapping[str, object]) -> None:
    for name in parameters:
        if name not in sequence.parameters:
            raise UnknownOption(
                f"{sequence.name} has no process parameter {name!r}{_nearest(name, sequence.parameters)}"
            )


def estimate(seconds: float, tasks: int, slots: int) -> float:
    """Return how long so many tasks of so many seconds take on so many slots, at least one task's time."""
    rounds = math.ceil(tasks / slots) if slots > 0 else tasks
    return seconds * rounds
