"""What makes one product the same as another: target processing makes only what is missing or outdated.

A product carries the digest of all that was settled before it was made (`identity`), and the calibrations that it
asked for while it was made, with the answers (`consulted`). It stands as long as it is valid and asking again gives
the same answers. Rules: docs/reference/target-processing.md.
"""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import platform
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from dpu_recipes.archive import Archive, ArchiveError, MissingCalibration, Selection
from dpu_recipes.frames import QUALITY_FIGURE, RAW_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from dpu_recipes.frames import Frame
    from dpu_recipes.task import Recipe, Request, TaskSpec

log = logging.getLogger(__name__)

#: A question for a calibration: its class, the frame that it is for, overscan method, identifier of the answer or ''.
Asked: TypeAlias = "tuple[str, str, int | None, str]"

_PACKAGE: Final = __name__.partition(".")[0]
#: Names the packages that a shipped tree asks for beside those of the recipes.
LOCK: Final = Path(__file__).parents[1] / "requirements.lock"
#: Libraries whose version is part of a product.
LIBRARIES: Final = ("numpy", "scipy", "astropy", "numba", "sep")
#: Options that say which frames, which the task's inputs say better, and those that are told beside.
_ELSEWHERE: Final = frozenset({"instrument", "chip", "filter", "pars"})
#: Options that say what becomes of a job.
_OF_A_JOB: Final = frozenset({"commit", "force", "deep", "targets", "dryrun", "privileges"})
#: What of an instrument only ingest reads, and what the parameters hold already.
_OF_INGEST: Final = frozenset({"recognise", "keys", "units", "types", "modes", "skip", "source", "limits"})


def identity_of(recipe: Recipe, request: Request, spec: TaskSpec, selecting: frozenset[str]) -> str:
    """Return the digest of all that is settled before a task runs; `selecting` names options that select frames."""
    settled = {
        "recipe": recipe.name,
        "code": code_digest(type(recipe).__module__),
        "versions": _versions() | _packages(),
        "parameters": asdict(request.parameters),
        "options": {
            name: value for name, value in request.options.items() if name not in _ELSEWHERE | _OF_A_JOB | selecting
        },
        "instrument": {
            item.name: getattr(request.instrument, item.name)
            for item in fields(request.instrument)
            if item.name not in _OF_INGEST
        },
        "inputs": spec.inputs,
        "arguments": spec.arguments,
    }
    return hashlib.sha256(json.dumps(settled, sort_keys=True, default=_plain).encode()).hexdigest()


def call_of(recipe: Recipe, request: Request, spec: TaskSpec) -> dict[str, Any]:
    """Return what makes a task's product again: recipe, options, inputs, arguments."""
    kept = {name: value for name, value in request.options.items() if name not in _OF_A_JOB}
    options = {name: value for name, value in kept.items() if value not in ("", None, {}, [])}
    return {"recipe": recipe.name, "options": options, "inputs": spec.inputs, "arguments": dict(spec.arguments)}


def standing(recipe: Recipe, archive: Archive, identity: str) -> Frame | None:
    """Return the newest product of an identity that is valid and not outdated, None where there is none.

    It is outdated where an input was set invalid since, which a raw frame cannot be, or a calibration is another now.
    """
    made = archive.select(recipe.makes, Selection(instrument="", identity=identity))
    # Most recipes ask several calibrations for one frame.
    find = cache(archive.find)
    for product in sorted(made, key=lambda frame: frame.creation_date, reverse=True):
        inputs = () if recipe.selects.startswith(RAW_PREFIX) else product.inputs
        asked = json.loads(product.consulted or "[]")
        if (
            product.is_valid
            and all(_is_valid(find, name) for name in inputs)
            and all(_answers_same(archive, find, *each) for each in asked)
        ):
            return product
    return None


def _is_valid(find: Callable[[str], Frame], frame_id: str) -> bool:
    try:
        return find(frame_id).is_valid
    except ArchiveError:
        return False


def _answers_same(archive: Archive, find: Callable[[str], Frame], *asked: Any) -> bool:
    frame_class, frame_id, overscan, answer = asked
    try:
        return archive.calibration(frame_class, find(frame_id), overscan=overscan).id == answer  # type: ignore[no-any-return]  # an identifier is a text
    except MissingCalibration:
        return not answer
    except ArchiveError:
        # The frame that it was asked for is gone.
        return False


class Witness(Archive):
    """An archive that notes which calibrations are asked for, and writes that into every product that is saved.

    What a recipe asks of its own class compares a product with its past, and makes it from nothing.
    """

    def __init__(self, archive: Archive, makes: str, identity: str, call: Mapping[str, Any]) -> None:
        """`call` is what was called: recipe, options, inputs, arguments."""
        self._archive = archive
        self._makes = makes
        self._identity = identity
        self._call = call
        self._consulted: list[Asked] = []
        self._past: list[Asked] = []

    def select(self, frame_class: str, selection: Selection) -> list[Frame]:
        """Return the frames of a class."""
        return self._archive.select(frame_class, selection)

    def find(self, frame_id: str) -> Frame:
        """Return one frame by its identifier."""
        return self._archive.find(frame_id)

    def calibration(self, frame_class: str, frame: Frame, *, overscan: int | None = None) -> Frame:
        """Return the calibration that is valid for `frame`, and note it."""
        answer = ""
        try:
            found = self._archive.calibration(frame_class, frame, overscan=overscan)
            answer = found.id
        finally:
            asked = (frame_class, frame.id, overscan, answer)
            notes = self._past if frame_class == self._makes else self._consulted
            if asked not in notes:
                notes.append(asked)
        return found

    def open(self, frame: Frame) -> Path:
        """Return the frame's file."""
        return self._archive.open(frame)

    def save(self, product: Frame, file: Path | None = None) -> Frame:
        """Stage a product that says what it was made of; its figure goes with it and says nothing."""
        if product.frame_class == QUALITY_FIGURE:
            return self._archive.save(product, file)
        noted = product.evolve(
            identity=self._identity,
            consulted=json.dumps(self._consulted) if self._consulted else "",
            making=json.dumps({**self._call, "past": self._past}, sort_keys=True),
        )
        return self._archive.save(noted, file)


class Replay(Archive):
    """An archive that answers about calibrations as it did when a product was made."""

    def __init__(self, archive: Archive, product: Frame) -> None:
        self._archive = archive
        self._product = product
        asked = [*json.loads(product.consulted or "[]"), *json.loads(product.making or "{}").get("past", [])]
        self._answers = {(frame_class, frame_id, overscan): answer for frame_class, frame_id, overscan, answer in asked}

    def select(self, frame_class: str, selection: Selection) -> list[Frame]:
        """Return the frames of a class."""
        return self._archive.select(frame_class, selection)

    def find(self, frame_id: str) -> Frame:
        """Return one frame by its identifier."""
        return self._archive.find(frame_id)

    def calibration(self, frame_class: str, frame: Frame, *, overscan: int | None = None) -> Frame:
        """Return the calibration that was used. Raises MissingCalibration where none was, or another was asked for."""
        answer = self._answers.get((frame_class, frame.id, overscan), "")
        if not answer:
            raise MissingCalibration(
                f"{self._product.file_name} was made without a {frame_class} for {frame.file_name}"
            )
        found = self._archive.find(answer)
        log.info("Using %s %s as before", frame_class, found.file_name)
        return found

    def open(self, frame: Frame) -> Path:
        """Return the frame's file."""
        return self._archive.open(frame)

    def save(self, product: Frame, file: Path | None = None) -> Frame:
        """Stage a product."""
        return self._archive.save(product, file)


@cache
def code_digest(module: str) -> str:
    """Return the digest of a module of this package and of all that it imports of it, directly or not.

    Comments, layout and docstrings do not count, and what is imported for types alone is not followed.
    """
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found and (file := _file_of(name)) is not None:
            found[name], imports = _read(name, file)
            waiting.extend(imports)
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _file_of(module: str) -> Path | None:
    """Return the file of a module of this package, None for any other name."""
    if module.partition(".")[0] != _PACKAGE:
        return None
    place = Path(__file__).parent.joinpath(*module.split(".")[1:])
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


@cache
def _read(module: str, file: Path) -> tuple[str, tuple[str, ...]]:
    """Return the digest of one module, and every name that may be a module which it imports."""
    tree = ast.parse(file.read_bytes(), module)
    digest = hashlib.sha256()
    # Without docstrings, and compiled code knows of no comments.
    for part in _instructions(compile(tree, module, "exec", dont_inherit=True, optimize=2)):
        digest.update(repr(part).encode())
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    return digest.hexdigest(), tuple(_imports(tree.body, package.split(".")))


def _instructions(code: CodeType) -> Iterator[Any]:
    """Give what compiled code does, less where in its file it stands."""
    yield code.co_code, code.co_names, code.co_varnames, code.co_cellvars, code.co_freevars, code.co_flags
    yield code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_name, code.co_exceptiontable
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _instructions(constant)
        elif isinstance(constant, frozenset):
            # Its own order is another in every process.
            yield sorted(map(repr, constant))
        else:
            yield constant


def _imports(body: Iterable[ast.stmt], package: list[str]) -> Iterator[str]:
    for node in body:
        match node:
            case ast.Import():
                yield from (item.name for item in node.names)
            case ast.ImportFrom():
                above = package[: len(package) - node.level + 1] if node.level else []
                source = ".".join([*above, *([node.module] if node.module else [])])
                yield from (source, *(f"{source}.{item.name}" for item in node.names))
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from _imports(node.orelse, package)
            case _:
                yield from _imports(_inside(node), package)


def _inside(node: ast.stmt) -> Iterator[ast.stmt]:
    """Give the statements inside a statement."""
    for name in ("body", "orelse", "finalbody"):
        yield from getattr(node, name, ())
    for handler in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        yield from handler.body


@cache
def _versions() -> dict[str, str]:
    return {"python": ".".join(platform.python_version_tuple()[:2])} | {name: _version(name) for name in LIBRARIES}


def _packages() -> dict[str, str]:
    """Return the digest of what the tree of this code asks for; nothing where it asks for nothing."""
    return {"packages": hashlib.sha256(LOCK.read_bytes()).hexdigest()} if LOCK.is_file() else {}


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a value of ours."""
    return {item.name: getattr(value, item.name) for item in fields(value)} if is_dataclass(value) else dict(value)
