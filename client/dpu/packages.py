"""Packages that a tree of code asks for beside those of the recipes, as the `requirements.lock` at its top names them.

Read by the worker, which installs them, and by a client whose DPU has not all of them and installs none.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distributions, version
from typing import TYPE_CHECKING, NamedTuple

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from dpu.errors import BadTree
from dpu.tree import LOCK
from dpu_api.v1.catalogue_pb2 import Packages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_HEADER = re.compile(r"^(Name|Version):[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_HASH = re.compile(r"\s+--hash=(sha256:[0-9a-f]{64})(?=\s|$)")


class Pin(NamedTuple):
    """One package in one version."""

    name: str
    version: str
    line: str
    hashed: bool


def offered(*, more: bool) -> Packages:
    """Return what tasks find installed on this machine, and whether they may have more."""
    told = Packages(markers={name: str(value) for name, value in default_environment().items()}, more=more)
    # Of two of one name, the one that comes first is imported.
    for each in reversed(list(distributions())):
        # Parsed as the mail that it is, all of it, this would take five times as long.
        text = each.read_text("METADATA") or each.read_text("PKG-INFO") or ""
        header = dict(_HEADER.findall(text.partition("\n\n")[0]))
        if header.keys() == {"Name", "Version"}:
            told.installed[canonicalize_name(header["Name"])] = header["Version"]
    return told


def check_here(tree: Path) -> None:
    """Raise BadTree where a tree asks for what is not installed on this machine, whose own DPU installs nothing."""
    if wanted := missing(pins(tree)):
        raise BadTree(
            f"{LOCK} asks for {_named(wanted)}, and the DPU of this machine installs no packages for tasks: install "
            f"them beside the recipes (pip install), or leave them out"
        )


def check_there(tree: Path, there: Packages) -> None:
    """Raise BadTree where a tree asks for what tasks will not find where they run."""
    wanted = missing(pins(tree, there.markers), lambda name: there.installed.get(canonicalize_name(name)))
    if wanted and not there.more:
        raise not_installed(wanted)


def not_installed(wanted: Sequence[Pin]) -> BadTree:
    """Return the refusal of what is missing on a DPU that installs nothing."""
    return BadTree(
        f"{LOCK} asks for {_named(wanted)}, and this DPU installs no packages for tasks: leave it out, or ask its "
        f"operator for DPU_WORKER_PACKAGES"
    )


def _named(wanted: Sequence[Pin]) -> str:
    return ", ".join(f"{pin.name}=={pin.version}" for pin in wanted)


def pins(tree: Path, markers: Mapping[str, str] | None = None) -> list[Pin]:
    """Return what the lock of a tree names; nothing where it has none. Raises BadTree where it is no lock.

    `markers` are those of the machine that is meant; None: this one.
    """
    try:
        text = (tree / LOCK).read_text()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise BadTree(f"{LOCK} cannot be read: {error}") from error
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in re.sub(r"\\\n", " ", text).splitlines())
    return [pin for line in lines if line and (pin := _pin(line, markers)) is not None]


def _pin(line: str, markers: Mapping[str, str] | None) -> Pin | None:
    """Return what one line names, None where it is not meant for the machine. Raises BadTree."""
    hashes = _HASH.findall(line)
    try:
        asked = Requirement(_HASH.sub("", line).strip())
    except InvalidRequirement as error:
        raise _no_pin(line) from error
    exact = [each.version for each in asked.specifier if each.operator == "==" and not each.version.endswith(".*")]
    if asked.url or len(exact) != 1 or len(asked.specifier) != 1:
        raise _no_pin(line)
    if asked.marker is not None and not asked.marker.evaluate(None if markers is None else {**markers}):
        return None
    text = " ".join([f"{asked.name}=={exact[0]}", *(f"--hash={each}" for each in hashes)])
    return Pin(asked.name, exact[0], text, bool(hashes))


def _no_pin(line: str) -> BadTree:
    return BadTree(
        f"{LOCK}: {line[:80]!r} is not NAME==VERSION with its hashes: write it with `uv pip compile --generate-hashes`"
    )


def _installed_here(name: str) -> str | None:
    """Return the version of a package of this machine, None where it has none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def missing(wanted: Sequence[Pin], version_of: Callable[[str], str | None] = _installed_here) -> list[Pin]:
    """Return what is not installed. Raises BadTree where that has another version of something."""
    found = []
    for pin in wanted:
        installed = version_of(pin.name)
        if installed is None:
            found.append(pin)
        elif installed != pin.version:
            raise BadTree(
                f"{LOCK} asks for {pin.name} {pin.version}, and the recipes run with {installed}: ask for that"
            )
    return found
