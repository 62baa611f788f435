"""Process parameters: the figures of a recipe that a user may change, declared as a frozen dataclass a product class.

A parameter's whole name is 'BiasFrame.process_params.SIGMA_CLIP'. Its value is, in this order, what the user gave,
what the instrument's description says, or the default in the dataclass.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import Field, asdict, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from dpu_recipes.task import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dpu_recipes.frames import Plain

#: A frozen dataclass whose fields are all made by `parameter`.
P = TypeVar("P")

GROUP = "process_params"


class BadParameter(RecipeError):
    """A process parameter has an unknown name, or a value that it cannot have."""


def parameter(
    default: float, meaning: str, *, unit: str = "", minimum: float = 0.0, maximum: float | None = None
) -> Any:
    """Return the field of a parameter: a number from `minimum` to `maximum`, whole where `default` is."""
    bounds = {"minimum": minimum} if maximum is None else {"minimum": minimum, "maximum": maximum}
    return field(default=default, metadata={"meaning": meaning, "unit": unit, "bounds": bounds})


def full_name(makes: str, name: str) -> str:
    """Return 'BiasFrame.process_params.SIGMA_CLIP' for a product class and the name of one of its parameters."""
    return f"{makes}.{GROUP}.{name}"


def flat(makes: str, parameters: Any) -> dict[str, Plain]:
    """Return parameters (a dataclass, or its class for the defaults) by whole name, in the order of declaration."""
    if isinstance(parameters, type):
        parameters = parameters()
    return {full_name(makes, name): value for name, value in asdict(parameters).items()}


def bounds(makes: str, kind: type) -> dict[str, dict[str, float]]:
    """Return the least and, where there is one, the greatest value of each parameter, by whole name."""
    return {full_name(makes, item.name): item.metadata["bounds"] for item in fields(kind)}


def resolved(kind: type[P], makes: str, *, changed: Mapping[str, Any], limits: Mapping[str, Any]) -> P:
    """Return the parameters of a product class.

    Parameters
    ----------
    kind : the dataclass.
    makes : the product class.
    changed : by whole name, what the user gave; names of other product classes are left out.
    limits : by short name, what the instrument's description says; names that are not ours are left out.

    Raises
    ------
    BadParameter : for a value that a parameter cannot have.
    """
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type] # P is a dataclass, which its bound cannot say
    given = {full_name(makes, name): value for name, value in limits.items()} | dict(changed)
    chosen = {
        name: _checked(item, whole, given[whole])
        for name, item in known.items()
        if (whole := full_name(makes, name)) in given
    }
    return kind(**chosen)


def check_names(changed: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise BadParameter, with the nearest name, where `changed` has a name that is not `known`."""
    names = list(known)
    for name in changed:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.0)
            raise BadParameter(f"there is no process parameter {name!r}; the nearest is {near[0]!r}")


def _checked(item: Field[Any], whole: str, value: Any) -> float:
    """Return a parameter's value. Raises BadParameter."""
    low, high = item.metadata["bounds"]["minimum"], item.metadata["bounds"].get("maximum", math.inf)
    allowed = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not low <= value <= high:
        raise BadParameter(f"{whole}={value!r} must be a number {allowed}")
    if not isinstance(item.default, int):
        return float(value)
    if value != int(value):
        raise BadParameter(f"{whole}={value!r} must be a whole number {allowed}")
    return int(value)
