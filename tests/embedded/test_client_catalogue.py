"""Recipes described in a child process: cached by content, and refused in one line."""

import sys
from pathlib import Path

import pytest
from google.protobuf import json_format

from dpu.catalogue import code_digest, describe
from dpu.errors import BadTree
from fakes_client import CATALOGUE

MAIN = "dpu_recipes/__main__.py"
ANSWER = json_format.MessageToJson(CATALOGUE, preserving_proto_field_name=True)


def tree(root: Path, main: str) -> Path:
    package = root / "dpu_recipes"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(main)
    return root


def printing(text: str, marker: Path) -> str:
    """Return a program that prints `text` and counts its runs in a file."""
    return f"import pathlib\nwith pathlib.Path({str(marker)!r}).open('a') as f: f.write('x')\nprint({text!r})\n"


def test_a_tree_is_asked_once_for_its_content(tmp_path):
    marker = tmp_path / "runs"
    root = tree(tmp_path / "tree", printing(ANSWER, marker))
    cache = tmp_path / "cache"
    assert describe(root, cache) == describe(root, cache) == CATALOGUE
    assert marker.read_text() == "x"
    (root / "dpu_recipes" / "new.py").write_text("changed = True\n")
    assert describe(root, cache) == CATALOGUE
    assert marker.read_text() == "xx"
    assert len(list(cache.iterdir())) == 2


def test_a_torn_cache_is_made_anew(tmp_path):
    marker = tmp_path / "runs"
    root = tree(tmp_path / "tree", printing(ANSWER, marker))
    (tmp_path / "cache").mkdir()
    kept = tmp_path / "cache" / f"{code_digest(root / 'dpu_recipes')}.binpb"
    for torn in (b"", b"\xff\xff"):
        kept.write_bytes(torn)
        assert describe(root, tmp_path / "cache") == CATALOGUE
    assert marker.read_text() == "xx"


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path):
    (tmp_path / "file").touch()
    root = tree(tmp_path / "tree", printing(ANSWER, tmp_path / "runs"))
    assert describe(root, tmp_path / "file" / "cache") == CATALOGUE


def test_the_tree_goes_before_what_is_installed_and_the_environment_is_clean(tmp_path, monkeypatch):
    monkeypatch.setenv("DPU_SECRET", "x")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    main = f"import os\nassert not {{'DPU_SECRET', 'PYTHONPATH'}} & set(os.environ)\nprint({ANSWER!r})\n"
    assert describe(tree(tmp_path / "tree", main), tmp_path / "cache") == CATALOGUE


@pytest.mark.parametrize(
    ("main", "reason"),
    [
        ("import nothing_of_that_name", f"{MAIN}, line 1: ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("print('hello')", "the answer is not a catalogue: "),
        ("print('{\"sequence\": []}')", "the answer is not a catalogue: "),
        ("raise SystemExit(3)", "it ended with exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "it ended with exit code -9"),
        ("x = (", f"{MAIN}, line 1: SyntaxError: '(' was never closed"),
    ],
)
def test_a_tree_that_cannot_be_described_is_one_line_and_is_not_cached(tmp_path, main, reason):
    root = tree(tmp_path / "tree", main)
    with pytest.raises(BadTree) as caught:
        describe(root, tmp_path / "cache")
    assert caught.value.message.startswith(f"the recipes in {str(root)!r} cannot be described: {reason}")
    assert "\n" not in caught.value.message
    assert not (tmp_path / "cache").exists()


def test_the_digest_tells_python_and_content_apart(tmp_path, monkeypatch):
    root = tree(tmp_path, "print(1)")
    before = code_digest(root / "dpu_recipes")
    assert code_digest(root / "dpu_recipes") == before
    monkeypatch.setattr(sys, "version", "4.0")
    assert code_digest(root / "dpu_recipes") != before
