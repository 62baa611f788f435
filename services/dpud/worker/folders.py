"""Folders that somebody else has filled."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def remove(folder: Path) -> None:
    """Remove a folder and all in it, also what was made read-only; links are removed, never followed."""
    if os.geteuid() == 0:
        # Root needs no modes; and whoever owns the folder could put a link where a mode is about to be set.
        shutil.rmtree(folder, ignore_errors=True)
        return
    with suppress(OSError):
        folder.chmod(0o700)
    for where, names, _ in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)  # noqa: PTH118 (walks through large trees)
            if not os.path.islink(path):  # noqa: PTH114 (as above)
                with suppress(OSError):
                    os.chmod(path, 0o700)  # noqa: PTH101 (as above)
    shutil.rmtree(folder, ignore_errors=True)
