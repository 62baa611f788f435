"""Recipes by name, and the two calls by which a task's process uses them.

A recipe needs no entry anywhere: DomeFlat is the class DomeFlat in tasks/dome_flat.py.
"""

from __future__ import annotations

import difflib
import logging
import re
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from dpu_recipes import instrument as instruments
from dpu_recipes import pars
from dpu_recipes.identity import Witness, identity_of, standing
from dpu_recipes.night import BadNight, parse_night
from dpu_recipes.sequences import SEQUENCES, Kind, Option, options_of
from dpu_recipes.task import Recipe, RecipeError, Request, TaskSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dpu_recipes.archive import Archive
    from dpu_recipes.instrument import Instruments

log = logging.getLogger(__name__)

#: What every recipe takes beside its own options, and no list of these shows.
FORCE = Option(
    short="force",
    long="force",
    kind=Kind.FLAG,
    default=0,
    help="1: make products that exist and are valid again",
    minimum=0,
    maximum=1,
)


def plan(
    recipe: str,
    options: Mapping[str, Any],
    archive: Archive,
    scratch: Path,
    known: Instruments | None = None,
) -> list[TaskSpec]:
    """Split a stage into tasks.

    Parameters
    ----------
    recipe : its name, 'Bias'.
    options : by long name; those that are missing, or '', have their defaults.
    archive : what the recipe may see.
    scratch : an empty folder of this call's own.
    known : the instruments; None: those that ship with the recipes.

    Raises
    ------
    RecipeError, ArchiveError : what was asked cannot be done; one clear line.
    """
    chosen = find(recipe)
    return chosen.plan(_request(chosen, options, archive, scratch, known))


def run(
    recipe: str,
    options: Mapping[str, Any],
    archive: Archive,
    scratch: Path,
    spec: TaskSpec,
    *,
    known: Instruments | None = None,
) -> None:
    """Do one task of a plan: read its inputs, compute, save its products. Parameters and errors are those of `plan`.

    Nothing is done where the product stands (dpu_recipes.identity) and the option `force` was not given.
    """
    chosen = find(recipe)
    request = _request(chosen, options, archive, scratch, known)
    selecting = frozenset(option.long for option in options_of(recipe).values() if option.selects)
    identity = identity_of(chosen, request, spec, selecting)
    if not request.options["force"] and (made := standing(chosen, archive, identity)) is not None:
        log.info("%s %s exists, is valid and not outdated: it is not made again", made.frame_class, made.file_name)
        return
    chosen.run(replace(request, archive=Witness(archive, chosen.makes, identity)), spec)


def find(recipe: str) -> Recipe:
    """Return a recipe by name. Raises RecipeError, with the nearest name."""
    module = f"dpu_recipes.tasks.{re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', recipe).lower()}"
    if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", recipe) or find_spec(module) is None:
        near = difflib.get_close_matches(recipe, names(), n=1, cutoff=0.0)
        raise RecipeError(f"there is no recipe {recipe!r}; the nearest is {near[0]!r}")
    found = getattr(import_module(module), recipe, None)
    if not (isinstance(found, type) and issubclass(found, Recipe)):
        raise RecipeError(f"{module} has no recipe named {recipe!r}")
    return found()


def names() -> list[str]:
    """Return the names of the recipes that the sequences use, in the order of the sequences."""
    return list(dict.fromkeys(stage for sequence in SEQUENCES for stage in sequence.stages))


def parameter_names() -> list[str]:
    """Return the whole names of the process parameters of all recipes."""
    recipes = [find(name) for name in names()]
    return [name for recipe in recipes for name in pars.flat(recipe.makes, recipe.parameters)]


def _request(
    recipe: Recipe, options: Mapping[str, Any], archive: Archive, scratch: Path, known: Instruments | None
) -> Request:
    """Return what a recipe is asked, checked and with every default filled in."""
    declared = options_of(recipe.name) | {FORCE.long: FORCE}
    _check_names(options, declared)
    given = {name: value for name, value in options.items() if value not in ("", None)}
    filled: dict[str, Any] = {name: given.get(name, option.default) for name, option in declared.items()}
    if not filled["instrument"]:
        raise RecipeError("option 'instrument' is required: i='WFI'")
    instrument = _instrument(str(filled["instrument"]), known)
    if "overscan" in declared:
        filled["overscan"] = given.get("overscan", instrument.overscan_method)
    for name, option in declared.items():
        _check_value(option, filled[name])
    if filled["pars"]:
        pars.check_names(filled["pars"], parameter_names())
    parameters: Any = pars.resolved(
        recipe.parameters,
        recipe.makes,
        changed=filled["pars"],
        limits=instrument.limits.get(recipe.makes, {}),
    )
    return Request(options=filled, instrument=instrument, parameters=parameters, archive=archive, scratch=scratch)


def _instrument(name: str, known: Instruments | None) -> instruments.Instrument:
    try:
        return (instruments.load() if known is None else known).get(name)
    except instruments.InstrumentError as error:
        raise RecipeError(str(error)) from error


def _check_names(options: Mapping[str, Any], declared: Mapping[str, Option]) -> None:
    for name in options:
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1, cutoff=0.0)
            raise RecipeError(f"there is no option {name!r}; the nearest is {near[0]!r}")


def _check_value(option: Option, value: Any) -> None:
    """Raise RecipeError where a value is not of its option's kind, or out of its bounds."""
    if value == option.default:
        return
    if option.kind is Kind.DATE:
        try:
            parse_night(str(value))
        except BadNight as error:
            raise RecipeError(f"option {option.long!r}: {error}") from error
    if option.kind in (Kind.INTEGER, Kind.FLOAT, Kind.FLAG):
        _check_bounds(option, value)


def _check_bounds(option: Option, value: Any) -> None:
    whole = option.kind is not Kind.FLOAT
    if not isinstance(value, int if whole else int | float):
        raise RecipeError(f"option {option.long!r}: {value!r} is not a {'whole ' if whole else ''}number")
    low, high = option.minimum, option.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        raise RecipeError(f"option {option.long!r}: {value!r} is not between {low:g} and {high:g}")
