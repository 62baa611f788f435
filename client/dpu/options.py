"""Options of `run`: those of the DPU taken apart from those of a sequence, and both checked against the catalogue."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from math import isfinite
from typing import TYPE_CHECKING

from dpu.errors import BadOption, UnknownOption, UnknownSequence, UsageError
from dpu.values import Plain, from_map, from_value
from dpu_api.v1.catalogue_pb2 import OptionKind

if TYPE_CHECKING:
    from dpu_api.v1 import catalogue_pb2 as pb

INSTRUMENT = "instrument"
#: As many MiB as any machine of ours may have.
MOST_MEMORY_MIB = 16 * 1024 * 1024
LONGEST_S = 366 * 24 * 3600.0
PRIORITIES = (-100, 100)
#: The version of the code that the workers have installed themselves.
CURRENT = "current"
#: Options of the DPU that have another name, too.
SHORT = {"dryrun": "dpu_dryrun"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DpuOptions:
    """How a job runs, whatever its sequence is."""

    #: Ship the local checkout, where there is one.
    send_code: bool = True
    #: Seconds that a task may run, and MiB that it may use; 0: the sequence's own figures.
    dpu_time: float = 0.0
    dpu_mem: int = 0
    #: Higher runs earlier, within one's own jobs.
    dpu_priority: int = 0
    #: Plan everything, make nothing.
    dpu_dryrun: bool = False
    #: Version of the code on the cluster: what the workers have, or one that is installed there under a name.
    dpu_aweversion: str = CURRENT

    @classmethod
    def of(cls, given: Mapping[str, object]) -> DpuOptions:
        """Return the DPU's own options among those `given`. Raises BadOption."""
        given = {SHORT.get(name, name): value for name, value in given.items()}
        convert: dict[str, Callable[[str, object], object]] = {
            "send_code": lambda name, value: bool(_flag(name, value)),
            "dpu_time": lambda name, value: _number(name, value, 0, LONGEST_S),
            "dpu_mem": lambda name, value: _integer(name, value, 0, MOST_MEMORY_MIB),
            "dpu_priority": lambda name, value: _integer(name, value, *PRIORITIES),
            "dpu_dryrun": lambda name, value: bool(_flag(name, value)),
            "dpu_aweversion": _version,
        }
        found = {name: convert[name](name, given[name]) for name in convert if name in given}
        if found.get("dpu_aweversion", CURRENT) != CURRENT and found.setdefault("send_code", False):
            raise BadOption(f"send_code=1 and dpu_aweversion={found['dpu_aweversion']!r}: one or the other")
        return cls(**found)  # type: ignore[arg-type]  # each converted to its field's type


#: Options of a sequence that `run` gives itself.
OURS = frozenset({"targets", "dryrun"})

DPU_OPTIONS = tuple(DpuOptions.__dataclass_fields__)


def find_sequence(catalogue: pb.Catalogue, name: str) -> pb.Sequence:
    """Return a sequence by its identifier. Raises UnknownSequence, which names the nearest and all; BadOption."""
    for sequence in catalogue.sequences:
        if sequence.name == name:
            return sequence
    known = [sequence.name for sequence in catalogue.sequences]
    if not isinstance(name, str):
        raise BadOption(f"{name!r}: must be the name of a sequence, as 'Bias'; known are {listed(known)}")
    raise UnknownSequence(f"there is no sequence {name!r}{nearest(name, known)}; known are {listed(known)}")


def names_of(sequence: pb.Sequence) -> list[str]:
    """Return the names of a sequence's own options: all short ones, then all long ones."""
    own = [option for option in sequence.options if not option.unlisted]
    return [option.short_name for option in own] + [option.long_name for option in own]


def check(sequence: pb.Sequence, given: Mapping[str, object]) -> dict[str, Plain]:
    """Return the options `given` for a sequence by long name, converted to their kinds.

    None and '' stand for not given. Raises UnknownOption, BadOption, or UsageError where one is missing.
    """
    found: dict[str, Plain] = {}
    names: dict[str, str] = {}
    for name, value in given.items():
        if SHORT.get(name, name) in DPU_OPTIONS:
            continue
        option = _find(sequence, name)
        if option.long_name in names:
            raise BadOption(
                f"{names[option.long_name]!r} and {name!r} are one option of {sequence.name}: give it only once"
            )
        names[option.long_name] = name
        if value is not None and value != "":
            found[option.long_name] = convert(sequence, option, name, value)
    _require(sequence, found)
    return found


def convert(sequence: pb.Sequence, option: pb.Option, name: str, value: object) -> Plain:
    """Return `value`, given for `option` under `name`, as the option's kind wants it. Raises BadOption."""
    match option.kind:
        case OptionKind.OPTION_KIND_INTEGER:
            return _integer(name, value, *_ends(option))
        case OptionKind.OPTION_KIND_FLOAT:
            return _number(name, value, *_ends(option))
        case OptionKind.OPTION_KIND_FLAG:
            return _flag(name, value)
        case OptionKind.OPTION_KIND_DATE:
            return _date(name, value)
        case OptionKind.OPTION_KIND_LIST:
            return _texts(name, value)
        case OptionKind.OPTION_KIND_PARAMETERS:
            return _parameters(sequence, name, value)
        case _:
            return _text(name, value)


def default_of(option: pb.Option) -> Plain:
    """Return an option's default; '' where it has none, 0 or 1 for a flag."""
    plain = from_value(option.default)
    if option.kind == OptionKind.OPTION_KIND_FLAG:
        return int(bool(plain))
    if option.kind == OptionKind.OPTION_KIND_PARAMETERS:
        return plain or {}
    return "" if plain is None else plain


def _find(sequence: pb.Sequence, name: str) -> pb.Option:
    for option in sequence.options:
        if name in {option.short_name, option.long_name}:
            return option
    known = [*names_of(sequence), *DPU_OPTIONS]
    raise UnknownOption(
        f"{sequence.name} has no option {name!r}{nearest(name, known)}; it knows {listed(names_of(sequence))}"
    )


def _require(sequence: pb.Sequence, found: Mapping[str, Plain]) -> None:
    shorts = {option.long_name: option.short_name for option in sequence.options}
    if INSTRUMENT in shorts and INSTRUMENT not in found:
        raise UsageError(f"{sequence.name} needs an instrument: give i=, as in i='WFI'")
    if sequence.one_of and not any(name in found for name in sequence.one_of):
        ways = " or ".join(f"{shorts.get(name, name)}= ({name})" for name in sequence.one_of)
        raise UsageError(f"{sequence.name} needs to know what to select: give {ways}")


def _parameters(sequence: pb.Sequence, name: str, value: object) -> dict[str, Plain]:
    """Return process parameters, checked against those that the stages have."""
    if not isinstance(value, Mapping):
        raise BadOption(f"{name}={value!r}: must be a dictionary of process parameters by name, as Pars.get() gives")
    known: dict[str, Plain] = {}
    bounds: dict[str, pb.Bounds] = {}
    for stage in sequence.stages:
        known |= from_map(stage.parameters)
        bounds |= stage.parameter_bounds
    for key in map(str, value):
        if key not in known:
            raise UnknownOption(
                f"{sequence.name} has no process parameter {key!r}{_meant(key, list(known))}; it knows {listed(known)}"
            )
    return {str(key): parameter(str(key), item, known[str(key)], bounds.get(str(key))) for key, item in value.items()}


def parameter(key: str, value: object, default: Plain, bounds: pb.Bounds | None = None) -> Plain:
    """Return the value of a process parameter as its kind, that of its default. Raises BadOption."""
    match default:
        case bool():
            return bool(_flag(key, value))
        case int():
            return _integer(key, value, *_ends(bounds))
        case float():
            return _number(key, value, *_ends(bounds))
        case list():
            return _texts(key, value)
        case _:
            return _text(key, value)


def _ends(bounds: pb.Option | pb.Bounds | None) -> tuple[float | None, float | None]:
    """Return the least and the greatest value that are allowed, None for any."""
    if bounds is None:
        return None, None
    low = bounds.minimum if bounds.HasField("minimum") else None
    return low, bounds.maximum if bounds.HasField("maximum") else None


def _flag(name: str, value: object) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # tells by TypeError; True and False are 1 and 0
    except TypeError:
        number = -1
    if number in {0, 1}:
        return number
    raise BadOption(f"{name}={value!r}: must be 0 or 1")


def _integer(name: str, value: object, low: float | None, high: float | None) -> int:
    try:
        # What counts as an index is whole: an int, or numpy's.
        number = operator.index(value)  # type: ignore[arg-type]  # tells by TypeError
    except TypeError:
        raise BadOption(f"{name}={value!r}: must be a whole number") from None
    return int(_bounded(name, number, low, high))


def _number(name: str, value: object, low: float | None, high: float | None) -> float:
    if isinstance(value, str | bytes | bool):
        raise BadOption(f"{name}={value!r}: must be a number")
    try:
        number = float(value)  # type: ignore[arg-type]  # tells by TypeError
    except (TypeError, ValueError, OverflowError):
        raise BadOption(f"{name}={value!r}: must be a number") from None
    return _bounded(name, number, low, high)


def _bounded(name: str, number: float, low: float | None, high: float | None) -> float:
    if not isfinite(number):
        raise BadOption(f"{name}={number!r}: must be a finite number")
    if (low is None or number >= low) and (high is None or number <= high):
        return number
    if high is None:
        raise BadOption(f"{name}={number!r}: must be at least {low:.12g}")
    least = "at most" if low is None else f"between {low:.12g} and"
    raise BadOption(f"{name}={number!r}: must be {least} {high:.12g}")


def _date(name: str, value: object) -> str:
    if type(value) is date:  # a datetime is no night
        return value.isoformat()
    try:
        night = date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        night = None
    # fromisoformat also takes '20000428' and week dates.
    if night is None or night.isoformat() != value:
        raise BadOption(f"{name}={value!r}: must be a date 'CCYY-MM-DD', the night that begins that evening")
    return night.isoformat()


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    raise BadOption(f"{name}={value!r}: must be a text")


def _texts(name: str, value: object) -> list[Plain]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Sequence) and value and all(isinstance(item, str) and item for item in value):
        return list(value)
    raise BadOption(f"{name}={value!r}: must be a list of texts")


def _version(name: str, value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise BadOption(f"{name}={value!r}: must be the name of a version (`awe version list`)")


def _meant(key: str, known: Sequence[str]) -> str:
    """Return which process parameter was meant, as `nearest` does; its last name alone tells as well."""
    leaf = key.rpartition(".")[2]
    whole = [name for name in known if name.rpartition(".")[2] == leaf.upper()]
    return f" (did you mean {whole[0]!r}?)" if whole else nearest(key, known)


def nearest(name: str, known: Sequence[str]) -> str:
    """Return ' (did you mean ...?)' with the nearest of the known names, or '' where none is near."""
    by_lower = {item.lower(): item for item in known}
    close = get_close_matches(name.lower(), by_lower, n=1)
    return f" (did you mean {by_lower[close[0]]!r}?)" if close else ""


def listed(known: Sequence[str] | Mapping[str, object]) -> str:
    """Return the known names as they stand in a message."""
    return ", ".join(known) or "none"
