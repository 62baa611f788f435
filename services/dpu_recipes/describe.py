"""What this tree of recipes can do, as the text that the DPU's catalogue is read from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import dpu_recipes
from dpu_recipes import instruments, pars, registry
from dpu_recipes.deep import NEEDS
from dpu_recipes.sequences import SEQUENCES, UNLISTED

if TYPE_CHECKING:
    from dpu_recipes.frames import Plain
    from dpu_recipes.sequences import Option, Sequence
    from dpu_recipes.task import Recipe


def describe() -> str:
    """Return the catalogue as proto-JSON of dpu_api.v1.Catalogue, with the original names of the fields."""
    catalogue = {"version": dpu_recipes.__version__, "sequences": [_sequence(item) for item in SEQUENCES]}
    return json.dumps(catalogue, indent=1)


def _sequence(sequence: Sequence) -> dict[str, Any]:
    return {
        "name": sequence.name,
        "summary": sequence.summary,
        "options": [*map(_option, sequence.option_list()), *map(_unlisted, UNLISTED)],
        "stages": [_stage(name) for name in sequence.stages],
        "one_of": sequence.one_of(),
    }


def _unlisted(option: Option) -> dict[str, Any]:
    return _option(option) | {"unlisted": True}


def _option(option: Option) -> dict[str, Any]:
    bounds = {"minimum": option.minimum, "maximum": option.maximum}
    return {
        "short_name": option.short,
        "long_name": option.long,
        "kind": option.kind.value,
        "default": _value(option.default),
        "help": option.help,
        **{name: bound for name, bound in bounds.items() if bound is not None},
    }


def _stage(name: str) -> dict[str, Any]:
    recipe = registry.find(name)
    return {
        "recipe": recipe.name,
        "selects": recipe.selects,
        "instead": recipe.instead,
        "selects_with": dict(recipe.selects_with),
        "makes": recipe.makes,
        "seconds": recipe.seconds,
        "memory_mib": recipe.memory_mib,
        "partial": recipe.partial,
        "needs": NEEDS.get(name, ()),
        "parameters": _map(pars.flat(recipe.makes, recipe.parameters)),
        "parameter_bounds": pars.bounds(recipe.makes, recipe.parameters),
        "instrument_parameters": {name: _map(changed) for name, changed in _by_instrument(recipe).items()},
    }


def _by_instrument(recipe: Recipe) -> dict[str, dict[str, Plain]]:
    """Return the process parameters whose default an instrument's description sets otherwise, by instrument."""
    defaults = pars.flat(recipe.makes, recipe.parameters)
    changed: dict[str, dict[str, Plain]] = {}
    for instrument in instruments.load().values():
        limits = instrument.limits.get(recipe.makes, {})
        own: Any = pars.resolved(recipe.parameters, recipe.makes, changed={}, limits=limits)
        found = {name: value for name, value in pars.flat(recipe.makes, own).items() if value != defaults[name]}
        if found:
            changed[instrument.name] = found
    return changed


def _value(plain: Any) -> dict[str, Any]:
    """Return a value as proto-JSON of dpu_api.v1.Value. A bool is an int to Python, so it is asked first."""
    match plain:
        case None:
            return {}
        case bool():
            return {"bool_value": plain}
        case int():
            return {"int_value": plain}
        case float():
            return {"double_value": plain}
        case str():
            return {"string_value": plain}
        case list():
            return {"list_value": {"values": [_value(item) for item in plain]}}
        case dict():
            return {"map_value": _map(plain)}
        case _:
            raise TypeError(f"{plain!r} has no place in a catalogue")


def _map(plain: dict[str, Any]) -> dict[str, Any]:
    return {"entries": {name: _value(item) for name, item in plain.items()}}
