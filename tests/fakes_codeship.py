"""Checkouts and trees for tests."""

from __future__ import annotations

import hashlib
import subprocess
from typing import TYPE_CHECKING

from dpu_api.v1.codeship_pb2 import TreeEntry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def entry(path: str, content: bytes = b"x", *, mode: int = 0o644, size: int | None = None) -> TreeEntry:
    return TreeEntry(path=path, mode=mode, size=len(content) if size is None else size, digest=digest(content))


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


def checkout(folder: Path, files: Mapping[str, str] | None = None) -> Path:
    """Make a checkout with a root `recipes/awe`, without git."""
    write(folder, {"pyproject.toml": '[tool.dpu]\nship = ["recipes/awe"]\n'})
    return write(
        folder, files if files is not None else {"recipes/awe/__init__.py": "", "recipes/awe/bias.py": "B = 1\n"}
    )


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=anna", "-c", "user.email=anna@example.org"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "First")
