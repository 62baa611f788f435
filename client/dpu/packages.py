"""Packages that a tree of code asks for beside those of the recipes, as the `requirements.lock` at its top names them.

Read by the worker, which installs them, and by a client whose DPU installs none.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, NamedTuple

from packaging.requirements import InvalidRequirement, Requirement

from dpu.errors import BadTree
from dpu.tree import LOCK

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_HASH = re.compile(r"\s+--hash=(sha256:[0-9a-f]{64})(?=\s|$)")


class Pin(NamedTuple):
    """One package in one version."""

    name: str
    version: str
    line: str
    hashed: bool


def pins(tree: Path) -> list[Pin]:
    """Return what the lock of a tree names; nothing where it has none. Raises BadTree where it is no lock."""
    try:
        text = (tree / LOCK).read_text()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise BadTree(f"{LOCK} cannot be read: {error}") from error
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in re.sub(r"\\\n", " ", text).splitlines())
    return [pin for line in lines if line and (pin := _pin(line)) is not None]


def _pin(line: str) -> Pin | None:
    """Return what one line names, None where it is not meant for this machine. Raises BadTree."""
    hashes = _HASH.findall(line)
    try:
        asked = Requirement(_HASH.sub("", line).strip())
    except InvalidRequirement as error:
        raise _no_pin(line) from error
    exact = [each.version for each in asked.specifier if each.operator == "==" and not each.version.endswith(".*")]
    if asked.url or len(exact) != 1 or len(asked.specifier) != 1:
        raise _no_pin(line)
    if asked.marker is not None and not asked.marker.evaluate():
        return None
    text = " ".join([f"{asked.name}=={exact[0]}", *(f"--hash={each}" for each in hashes)])
    return Pin(asked.name, exact[0], text, bool(hashes))


def _no_pin(line: str) -> BadTree:
    return BadTree(
        f"{LOCK}: {line[:80]!r} is not NAME==VERSION with its hashes: write it with `uv pip compile --generate-hashes`"
    )


def missing(wanted: Sequence[Pin]) -> list[Pin]:
    """Return what is not installed here. Raises BadTree where it has another version of something."""
    found = []
    for pin in wanted:
        try:
            here = version(pin.name)
        except PackageNotFoundError:
            found.append(pin)
            continue
        if here != pin.version:
            raise BadTree(f"{LOCK} asks for {pin.name} {pin.version}, and the recipes run with {here}: ask for that")
    return found


def named(wanted: Sequence[Pin]) -> str:
    """Return what is asked for, for a person."""
    return ", ".join(f"{pin.name}=={pin.version}" for pin in wanted)


def check(tree: Path) -> None:
    """Raise BadTree where a tree asks for what is not installed here, where its tasks are to run."""
    if wanted := missing(pins(tree)):
        raise BadTree(
            f"{LOCK} asks for {named(wanted)}, and the DPU of this machine installs no packages for tasks: install "
            f"them beside the recipes (pip install), or leave them out"
        )
