"""The checkout whose code is shipped: where it is, which of its files travel, and what git says of it."""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import re
import subprocess
import tempfile
import tomllib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

import pathspec

from dpu.errors import BadTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

#: What is shipped of a checkout that does not say.
DEFAULT_ROOTS = ("services/dpu_recipes",)

#: Files and folders of these names never travel, whatever a checkout says.
DENIED = (
    *(".git", ".env*", ".netrc", ".pgpass", ".pypirc", ".ssh", ".aws", ".credentials*", "credentials", "credentials.*"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.key", "*.pem", "*.p12", "*.pfx"),
    *("*.fit", "*.fits*"),
    *("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi", "__pycache__", "*.py[cod]"),
)
_DENIED = re.compile("|".join(map(fnmatch.translate, DENIED)))


@dataclass(frozen=True, slots=True)
class Listing:
    """Files of a checkout, by path relative to it, and what is known of their history.

    One that was deleted, and is still known to git, may be among them.
    """

    paths: tuple[str, ...]
    #: Waits for git, which looks for changes meanwhile: 'git 1a2b3c4 + 2 changed files', or '' without git.
    history: Callable[[], str]


def find_checkout(environ: Mapping[str, str]) -> Path | None:
    """Return $AWEPIPE, or the checkout that `dpu_recipes` comes from; None for an installed one.

    Raises BadTree where $AWEPIPE is no folder.
    """
    named = environ.get("AWEPIPE", "")
    if named:
        path = Path(named).expanduser()
        if not path.is_dir():
            raise BadTree(f"AWEPIPE={named!r} is no folder: set it to your checkout, or unset it")
        return path.resolve()
    found = importlib.util.find_spec("dpu_recipes")
    if found is None or not found.submodule_search_locations:
        return None
    package = Path(found.submodule_search_locations[0]).resolve()
    for folder in package.parents:
        # An environment inside a checkout has an installed package below the checkout's pyproject.toml.
        if any(package == folder / root for root in _declared(folder)):
            return folder
    return None


def roots_of(checkout: Path) -> tuple[str, ...]:
    """Return the import roots that travel, relative to the checkout. Raises BadTree."""
    roots = _declared(checkout) or DEFAULT_ROOTS
    for root in roots:
        parts = PurePosixPath(root).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise BadTree(f"[tool.dpu] ship = {root!r}: must be a folder inside the checkout {checkout}")
        if not (checkout / root).is_dir():
            raise BadTree(f"{checkout / root} is no folder: name the folders to ship in [tool.dpu] ship")
        if not (checkout / root).resolve().is_relative_to(checkout.resolve()):
            raise BadTree(f"{checkout / root} is a symbolic link out of the checkout")
    return tuple(str(PurePosixPath(root)) for root in roots)


@contextmanager
def listed(checkout: Path, roots: Iterable[str]) -> Iterator[Listing]:
    """Give the files below the roots that git would show, or that no .gitignore names where git cannot say.

    Meanwhile git looks for changes, and has ended when the block ends.
    """
    roots = tuple(roots)
    with _status(checkout, roots) as status:
        paths = _by_git(checkout, roots)
        if paths is None:
            yield Listing(tuple(sorted(path for root in roots for path in _walked(checkout, root))), str)
        else:
            yield Listing(paths, status)


def is_denied(path: str) -> bool:
    """Return whether the path has a name in it that never travels."""
    return any(map(_never_travels, path.split("/")))


@lru_cache(maxsize=4096)
def _never_travels(name: str) -> bool:
    # The same folders are in the paths of hundreds of files.
    return _DENIED.match(name) is not None


def own_ignores(checkout: Path) -> pathspec.GitIgnoreSpec:
    """Return what the checkout's .dpuignore names."""
    return _spec(checkout / ".dpuignore")


def _declared(folder: Path) -> tuple[str, ...]:
    """Return [tool.dpu] ship of the folder's pyproject.toml; nothing where it does not say."""
    path = folder / "pyproject.toml"
    try:
        ship = tomllib.loads(path.read_text()).get("tool", {}).get("dpu", {}).get("ship", [])
    except OSError:
        return ()
    except ValueError as error:
        raise BadTree(f"{path} cannot be read: {error}") from error
    if not isinstance(ship, list) or not all(isinstance(root, str) for root in ship):
        raise BadTree(f"{path}: [tool.dpu] ship = {ship!r}: must be a list of folders")
    return tuple(ship)


def _by_git(checkout: Path, roots: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the files that git would show, or None where it cannot say."""
    with _git(checkout, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *roots) as listing:
        told = listing()
    if told is None:
        return None
    paths = {os.fsdecode(path) for path in told.split(b"\0") if path}
    nested = [path for path in paths if path.endswith("/")]
    if nested:
        raise BadTree(f"{checkout / nested[0]} is a git repository of its own: name it in .gitignore, or in ship")
    return tuple(sorted(paths))


@contextmanager
def _status(checkout: Path, roots: tuple[str, ...]) -> Iterator[Callable[[], str]]:
    """Have git look for changes; give what waits for 'git 1a2b3c4 + 2 changed files', '' where git cannot say."""
    options = ("--porcelain=v2", "--branch", "--no-ahead-behind", "-z", "--no-renames", "--untracked-files=all")
    with _git(checkout, "status", *options, "--", *roots) as status:
        yield lambda: _in_words((status() or b"").split(b"\0"))


def _in_words(fields: Sequence[bytes]) -> str:
    commit = next((field.split()[-1].decode() for field in fields if field.startswith(b"# branch.oid ")), "")
    changed = sum(bool(field) and not field.startswith(b"# ") for field in fields)
    return f"git {commit[:12]} + {changed} changed file{'' if changed == 1 else 's'}" if commit else ""


@contextmanager
def _git(checkout: Path, *arguments: str) -> Iterator[Callable[[], bytes | None]]:
    """Run git aside; give what waits for all that it said, None where it failed or there is none."""
    # A hook's or a rebase's own variables would point to another repository.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(checkout), *arguments]
    # Into a file, which takes all that it says: nobody needs to listen before all else is done.
    with tempfile.TemporaryFile() as told:
        try:
            git = subprocess.Popen(command, stdout=told, stderr=subprocess.DEVNULL, env=environment)  # noqa: S603 (the user's own git, with paths behind '--')
        except OSError:
            yield lambda: None
            return
        with git:
            yield lambda: None if git.wait() else _whole(told)


def _whole(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _walked(checkout: Path, root: str) -> Iterator[str]:
    """Yield the files below a root, less those that a .gitignore on the way names."""
    parts = (".", *map(str, reversed(PurePosixPath(root).parents)), root)
    above = [checkout / part for part in parts if (checkout / part).is_dir()]
    specs = {folder: _spec(folder / ".gitignore") for folder in above}
    if (checkout / root).is_file() and not _ignored(specs, checkout / root, ""):
        yield root
    for where, folders, files in os.walk(checkout / root):
        here = Path(where)
        specs.setdefault(here, _spec(here / ".gitignore"))
        folders[:] = sorted(name for name in folders if not _ignored(specs, here / name, "/"))
        # A link to a folder is no folder to walk through: it is looked at, and refused, like a file.
        links = [name for name in folders if (here / name).is_symlink()]
        for name in sorted([*files, *links]):
            if not _ignored(specs, here / name, ""):
                yield (here / name).relative_to(checkout).as_posix()


def _ignored(specs: Mapping[Path, pathspec.GitIgnoreSpec], path: Path, suffix: str) -> bool:
    """Return whether the .gitignore nearest above the path that says anything of it ignores it."""
    if path.name == ".git":
        return True
    for folder in path.parents:
        spec = specs.get(folder)
        verdict = spec.check_file(path.relative_to(folder).as_posix() + suffix).include if spec is not None else None
        if verdict is not None:
            return verdict
    return False


def _spec(path: Path) -> pathspec.GitIgnoreSpec:
    try:
        return pathspec.GitIgnoreSpec.from_lines(path.read_text().splitlines())
    except FileNotFoundError:
        return pathspec.GitIgnoreSpec([])
    except (OSError, ValueError) as error:
        raise BadTree(f"{path} cannot be read: {error}") from error
