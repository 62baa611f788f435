"""What a tree of recipes can do, as data: `python -m dpu_recipes describe`, asked once a code digest.

Recipes are never imported here: a child process with a clean environment is asked, and its answer is kept on disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

from google.protobuf import json_format
from google.protobuf.message import DecodeError

import dpu
from dpu.errors import BadTree
from dpu.local import default_home
from dpu_api.v1.catalogue_pb2 import Catalogue

PACKAGE = "dpu_recipes"
LIMIT_S = 20.0
#: What the child keeps of our environment: nothing that could change what is imported.
KEPT = ("PATH", "HOME", "LANG", "TMPDIR")
#: How a traceback names a place.
_PLACE = re.compile(r'^ *File "(.+)", line (\d+)', re.MULTILINE)
#: Runs the tree's own `describe`: the tree goes first on sys.path, before anything of it is imported.
DESCRIBE = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('dpu_recipes', run_name='__main__')"
)


def describe_installed(cache: Path | None = None) -> Catalogue:
    """Return what the recipes installed beside this client can do. Raises BadTree where there are none."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise BadTree("no recipes are installed here: pip install 'dpu[recipes]'")
    return describe(Path(spec.origin).parent.parent, cache)


def describe_checkout(checkout: Path, cache: Path | None = None) -> Catalogue:
    """Return what the recipes of a checkout can do. Raises BadTree."""
    return describe(import_root(checkout), cache)


def import_root(checkout: Path) -> Path:
    """Return the folder of a checkout that holds the recipes it ships. Raises BadTree where it ships none."""
    from dpu.checkout import roots_of

    for root in roots_of(checkout):
        if (folder := checkout / root).name == PACKAGE:
            return folder.parent
    raise BadTree(f"{checkout} ships no {PACKAGE}: name its folder in [tool.dpu] ship, or run with send_code=False")


def describe(root: Path, cache: Path | None = None) -> Catalogue:
    """Return what the recipes below `root`, the folder that holds `dpu_recipes`, can do.

    Answers are kept in `cache`, by default below the DPU's home. Raises BadTree with the one line that says why a
    tree cannot be described.
    """
    root = root.absolute()
    kept = (cache or default_cache()) / f"{code_digest(root / PACKAGE)}.binpb"
    known = _read(kept)
    if known is None:
        known = _parse(_ask(root), root)
        _keep(kept, known)
    return known


def default_cache() -> Path:
    """Return the folder in which catalogues are kept."""
    return default_home() / "cache" / "catalogues"


def code_digest(package: Path) -> str:
    """Return the SHA-256 of every source and data file below `package`, and of who asks."""
    state = hashlib.sha256(f"{dpu.__version__} {sys.version}\n".encode())
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix in {".py", ".toml"}:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            state.update(f"{path.relative_to(package).as_posix()} {content}\n".encode())
    return state.hexdigest()


def _ask(root: Path) -> str:
    """Return what `describe` printed."""
    environment = {key: os.environ[key] for key in KEPT if key in os.environ}
    command = [sys.executable, "-P", "-B", "-c", DESCRIBE, str(root), "describe"]
    try:
        done = subprocess.run(  # noqa: S603 (the user's own recipes, in a process of their own)
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
            text=True,
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _refusal(root, f"it did not answer within {LIMIT_S:.0f} s") from None
    except OSError as error:
        raise _refusal(root, f"Python could not be started: {error.strerror}") from error
    if done.returncode != 0:
        raise _refusal(root, _told(done.stderr, root) or f"it ended with exit code {done.returncode}")
    return done.stdout


def _parse(text: str, root: Path) -> Catalogue:
    try:
        # A newer tree may say more than this client understands.
        told = json_format.Parse(text, Catalogue(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise _refusal(root, f"the answer is not a catalogue: {_last_line(str(error))}") from error
    if not told.sequences:
        raise _refusal(root, "the answer is not a catalogue: it has no sequences")
    return told


def _refusal(root: Path, reason: str) -> BadTree:
    return BadTree(f"the recipes in {str(root)!r} cannot be described: {reason} (try `python -m dpu_recipes describe`)")


def _told(text: str, root: Path) -> str:
    """Return the last line that says something; of a traceback, also the last place in the tree that it names."""
    places = [(Path(file), line) for file, line in _PLACE.findall(text)]
    ours = [f"{file.relative_to(root)}, line {line}: " for file, line in places if file.is_relative_to(root)]
    return "".join(ours[-1:]) + _last_line(text)


def _last_line(text: str) -> str:
    """Return the last line that says something: of a traceback, the exception."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _read(kept: Path) -> Catalogue | None:
    try:
        known = Catalogue.FromString(kept.read_bytes())
    except (OSError, DecodeError):
        return None
    # A file that a power cut left empty parses as an empty catalogue.
    return known if known.sequences else None


def _keep(kept: Path, catalogue: Catalogue) -> None:
    """Write a catalogue in one step; a folder that cannot be written only costs time."""
    fresh = kept.with_name(f"{kept.name}.{os.getpid()}.{threading.get_ident()}")
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            fresh.write_bytes(catalogue.SerializeToString(deterministic=True))
            fresh.replace(kept)
        finally:
            fresh.unlink(missing_ok=True)
