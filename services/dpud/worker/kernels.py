"""Where numba keeps the compiled kernels of a shipped tree: under the digest of all that they are made of.

So a line that is changed elsewhere costs no compilation, and one that a kernel is made of is never missed: numba itself
looks at a kernel's own file alone, and only in the folder where it found it last. numba takes TreeLocator from the
environment, NUMBA_CACHE_LOCATOR_CLASSES, and asks it where a kernel's code belongs; older ones keep the code by tree.
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from numba.core.caching import _CacheLocator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


#: Where numba is told to keep code.
FOLDER = "NUMBA_CACHE_DIR"


class TreeLocator(_CacheLocator):
    """Places the code of one kernel."""

    def __init__(self, made_of: str, line: int) -> None:
        self._made_of = made_of
        self._line = line

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> Self | None:
        """Return the place of a function's code; None where it is not of the tree, and another must say."""
        tree, module = Path(sys.path[0]), function.__module__
        if FOLDER not in os.environ or _file_of(tree, module) != Path(file):
            return None
        locator = cls(closure_digest(tree, module), function.__code__.co_firstlineno)
        try:
            locator.ensure_cache_path()  # type: ignore[no-untyped-call]  # numba's
            # What is used stays, when what was unused longest goes.
            os.utime(locator.get_cache_path())
        except OSError:
            return None
        return locator

    def get_cache_path(self) -> str:
        """Return the folder."""
        return os.path.join(os.environ[FOLDER], f"kernels-{self._made_of[:32]}")  # noqa: PTH118 (numba's are strings)

    def get_source_stamp(self) -> str:
        """Return what the code must have been compiled from to be used."""
        return self._made_of

    def get_disambiguator(self) -> str:
        """Return what tells functions of one name apart."""
        return str(self._line)


def closure_digest(tree: Path, module: str) -> str:
    """Return the digest of a module and of all in the tree that it imports, directly or not, wherever in its text."""
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found and (file := _file_of(tree, name)) is not None:
            source = file.read_bytes()
            found[name] = hashlib.sha256(source).hexdigest()
            waiting += _imports(source, name if file.name == "__init__.py" else name.rpartition(".")[0])
            # Importing a module runs the packages around it.
            waiting.append(name.rpartition(".")[0])
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()


def _file_of(tree: Path, module: str) -> Path | None:
    """Return the file of a module in the tree."""
    place = tree.joinpath(*module.split("."))
    candidates = (place.with_suffix(".py"), place / "__init__.py") if module else ()
    return next((file for file in candidates if file.is_file()), None)


def _imports(source: bytes, package: str) -> Iterator[str]:
    """Yield every name that may be a module which a source imports at run time."""
    tree: ast.AST = ast.Module([], [])
    with suppress(SyntaxError, ValueError):
        # What cannot be read cannot be imported either.
        tree = ast.parse(source)
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (item.name for item in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield from (origin, *(f"{origin}.{item.name}" for item in node.names))
