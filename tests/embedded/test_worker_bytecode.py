"""Bytecode of a tree that cannot be written, kept elsewhere; that of everything else stays where it is."""

import subprocess
import sys
from pathlib import Path

from fakes_codeship import write

CODE = """
import sys
from dpud.worker import bytecode
bytecode.keep(sys.argv[1], sys.argv[2])
sys.path[:0] = [sys.argv[1], sys.argv[3]]
import awe.deep.bias, other
print(awe.deep.bias.VALUE, awe.deep.bias.__file__, sys.pycache_prefix)
"""


def imported(tmp_path: Path) -> list[str]:
    """Import in a process of its own; return what it says."""
    folders = [tmp_path / name for name in ("tree", "kept", "installed")]
    command = [sys.executable, "-c", CODE, *folders]
    ended = subprocess.run(command, env={}, check=True, capture_output=True, text=True)
    return ended.stdout.split()


def compiled(folder: Path) -> list[str]:
    return sorted(path.name.partition(".")[0] for path in folder.rglob("*.pyc"))


def test_only_the_trees_bytecode_is_moved(tmp_path: Path) -> None:
    write(tmp_path / "tree", {"awe/__init__.py": "", "awe/deep/__init__.py": "", "awe/deep/bias.py": "VALUE = 1\n"})
    write(tmp_path / "installed", {"other.py": ""})
    bias = tmp_path / "tree/awe/deep/bias.py"
    assert imported(tmp_path) == ["1", str(bias), "None"]
    assert compiled(tmp_path / "kept") == ["__init__", "__init__", "bias"]
    assert compiled(tmp_path / "tree") == []
    assert compiled(tmp_path / "installed") == ["other"]
    # It is used again: where it says otherwise than the source, it is believed.
    (kept,) = (tmp_path / "kept").rglob("bias.*.pyc")
    kept.write_bytes(kept.read_bytes().replace(b"\xe9\x01\x00\x00\x00", b"\xe9\x07\x00\x00\x00"))
    assert imported(tmp_path)[0] == "7"
