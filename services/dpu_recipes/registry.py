"""Recipes by name, and the two calls by which a task's process uses them.

A recipe needs no entry anywhere: DomeFlat is the class DomeFlat in tasks/dome_flat.py.
"""

from __future__ import annotations

import difflib
import json
import logging
import re
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from dpu_recipes import instruments, pars
from dpu_recipes.deep import Larder, plain
from dpu_recipes.frames import RAW_PREFIX
from dpu_recipes.identity import Replay, Witness, call_of, identity_of, standing
from dpu_recipes.instrument import InstrumentError
from dpu_recipes.night import BadNight, parse_night
from dpu_recipes.rehearsal import Part, told
from dpu_recipes.sequences import DEEP, DRYRUN, SEQUENCES, TARGETS, UNLISTED, Kind, Option, options_of
from dpu_recipes.task import Recipe, RecipeError, Request, TaskSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from dpu_recipes.archive import Archive
    from dpu_recipes.frames import Frame
    from dpu_recipes.instrument import Instrument
    from dpu_recipes.instruments import Instruments

log = logging.getLogger(__name__)

#: Arguments of a task that say how it is called: with options of its own, or as a product was made.
_OWN, _AGAIN = "own options", "as was made"
#: Options that say which frames; the inputs of a task say it better.
_WHICH = ("date", "chip", "filter")


def plan(
    recipe: str,
    options: Mapping[str, Any],
    archive: Archive,
    scratch: Path,
    known: Instruments | None = None,
) -> list[TaskSpec]:
    """Split a stage into tasks; of a dry run none, and the log tells what there would be.

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
    if options.get(DRYRUN.long):
        _rehearse(recipe, {**options, DRYRUN.long: 0}, archive, scratch, known)
        return []
    chosen = find(recipe)
    targets = options.get(TARGETS.long) or [recipe]
    if options.get(DEEP.long) and recipe not in targets:
        return list(_first(recipe, options, _Kitchen(archive, scratch, known)))
    request = _request(chosen, options, archive, scratch, known)
    for line in strays(request.instrument):
        log.warning("%s", line)
    return chosen.plan(request)


def strays(instrument: Instrument) -> Iterator[str]:
    """Yield a line for each limit and each minimum of an instrument's file that belongs to no recipe."""
    limits = [pars.full_name(makes, name) for makes, own in instrument.limits.items() for name in own]
    for key, said, known in (
        ("limits", limits, parameter_names()),
        ("minima", list(instrument.minima), [find(name).makes for name in names()]),
    ):
        for name in said:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
                yield f"{instrument.source}: {key}: no recipe has {name!r}; the nearest is {near[0]!r}"


def _rehearse(
    recipe: str, options: Mapping[str, Any], archive: Archive, scratch: Path, known: Instruments | None
) -> None:
    """Log what the tasks of a stage would do. Raises as `plan` does where it begins with raw frames."""
    chosen = find(recipe)
    try:
        specs = plan(recipe, options, archive, scratch, known)
    except RecipeError as error:
        if chosen.selects.startswith(RAW_PREFIX):
            raise
        log.info("%s : would begin with what comes before it; so far %s", recipe, error)
        return
    parts = []
    for spec in specs:
        call = _Call.of(chosen, options, archive, scratch, known=known, spec=spec)
        parts.append(Part(chosen, call.request, call.spec, call.made(archive)))
    for line in told(chosen, parts):
        log.info("%s", line)


def _first(recipe: str, options: Mapping[str, Any], kitchen: _Kitchen) -> Iterator[TaskSpec]:
    """Give the tasks by which a recipe makes what those after it will miss."""
    asked = {name: value for name, value in options.items() if name not in {item.long for item in UNLISTED}}
    larder = Larder(kitchen, kitchen.archive)
    missing = [item for target in options[TARGETS.long] for item in larder.missing(target, asked)]
    planned = set()
    for own in (own for name, own in missing if name == recipe):
        try:
            specs = kitchen.planned(recipe, own)
        except RecipeError as error:
            log.warning("%s is missing and cannot be made: %s", find(recipe).makes, error)
            continue
        for spec in specs:
            # Asked for a chip and for all of them, it is one product, and two tasks would make it at once.
            same = json.dumps([spec.inputs, dict(spec.arguments), {**own, **dict.fromkeys(_WHICH)}], sort_keys=True)
            if same not in planned:
                planned.add(same)
                yield replace(spec, arguments={**spec.arguments, _OWN: plain(own)})


@dataclass(frozen=True, slots=True)
class _Kitchen:
    """The recipes, for dpu_recipes.deep."""

    archive: Archive
    scratch: Path
    known: Instruments | None

    def filled(self, recipe: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the options of a recipe with its defaults; what it does not have is left out."""
        declared = options_of(recipe)
        own = {name: value for name, value in options.items() if name in declared}
        filled = _request(find(recipe), own, self.archive, self.scratch, self.known).options
        return {name: value for name, value in filled.items() if name in declared}

    def planned(self, recipe: str, options: Mapping[str, Any]) -> list[TaskSpec]:
        """Return the tasks of a recipe."""
        chosen = find(recipe)
        return chosen.plan(_request(chosen, options, self.archive, self.scratch, self.known))

    def starts_from(self, recipe: str, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the classes that a recipe starts from, of which it takes the first that has frames."""
        return find(recipe).starts_from(options)

    def maker(self, frame_class: str) -> str:
        """Return the recipe that makes a class, '' where none does."""
        return next((name for name in names() if find(name).makes == frame_class), "")


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
    call = _Call.of(chosen, options, archive, scratch, known=known, spec=spec)
    if call.again:
        archive = Replay(archive, archive.find(call.again))
    elif (made := call.made(archive)) is not None:
        log.info("%s %s exists, is valid and not outdated: it is not made again", made.frame_class, made.file_name)
        return
    witness = Witness(archive, chosen.makes, call.identity, call_of(chosen, call.request, call.spec))
    chosen.run(replace(call.request, archive=witness), call.spec)


@dataclass(frozen=True, slots=True)
class _Call:
    """One task of a plan, as its recipe is called for it."""

    recipe: Recipe
    request: Request
    spec: TaskSpec
    identity: str
    #: The product as which it is made again, '' for none.
    again: str

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        options: Mapping[str, Any],
        archive: Archive,
        scratch: Path,
        *,
        known: Instruments | None,
        spec: TaskSpec,
    ) -> _Call:
        """Return how a task is called: with the options of the job, with its own, or as a product was made."""
        how: dict[str, Any] = {name: spec.arguments[name] for name in (_OWN, _AGAIN) if name in spec.arguments}
        spec = replace(spec, arguments={name: value for name, value in spec.arguments.items() if name not in how})
        request = _request(recipe, how.get(_OWN, options), archive, scratch, known)
        selecting = frozenset(option.long for option in options_of(recipe.name).values() if option.selects)
        return cls(recipe, request, spec, identity_of(recipe, request, spec, selecting), str(how.get(_AGAIN, "")))

    def made(self, archive: Archive) -> Frame | None:
        """Return the product that stands, None where it has to be made."""
        return None if self.request.options["force"] else standing(self.recipe, archive, self.identity)


def find(recipe: str) -> Recipe:
    """Return a recipe by name. Raises RecipeError, with the nearest name, or all where none is near."""
    module = f"dpu_recipes.tasks.{re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', recipe).lower()}"
    if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", recipe) or find_spec(module) is None:
        near = difflib.get_close_matches(recipe, names(), n=1)
        known = f"the nearest is {near[0]!r}" if near else f"known are {', '.join(names())}"
        raise RecipeError(f"there is no recipe {recipe!r}; {known}")
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
    declared = options_of(recipe.name) | {option.long: option for option in UNLISTED}
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


def _instrument(name: str, known: Instruments | None) -> Instrument:
    try:
        return (instruments.load() if known is None else known).get(name)
    except InstrumentError as error:
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
