"""Where Python keeps the bytecode of a shipped tree, which itself cannot be written.

Only the tree's: PYTHONPYCACHEPREFIX would move that of installed packages too, and with each new tree all that a task
imports of them would be compiled anew, which takes seconds.
"""

from __future__ import annotations

import sys
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType


def keep(tree: str, folder: str) -> None:
    """Have the bytecode of modules below `tree` kept in `folder`. Before the tree goes on sys.path."""

    class Loader(SourceFileLoader):
        """Loads a module of the tree."""

        def get_code(self, fullname: str) -> CodeType | None:
            before, sys.pycache_prefix = sys.pycache_prefix, folder
            try:
                return super().get_code(fullname)
            finally:
                sys.pycache_prefix = before

    def find(path: str) -> FileFinder:
        if path != tree and not path.startswith(f"{tree}/"):
            raise ImportError(f"{path} is not in {tree}")
        return FileFinder(path, (ExtensionFileLoader, EXTENSION_SUFFIXES), (Loader, SOURCE_SUFFIXES))

    sys.path_hooks.insert(0, find)
