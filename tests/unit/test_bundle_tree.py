"""What a tree of code may not be: one suite for client and service, who use the same checks."""

import hashlib

import pytest

from dpu.errors import BadTree
from dpu.tree import Limits, check, check_sizes, digest_of
from fakes_codeship import digest, entry

ROOT = "dpu_recipes"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../etc/passwd", "'..' in it"),
        ("dpu_recipes/../../x.py", "'..' in it"),
        ("..", "'..' in it"),
        (".", "'.' or '..' in it"),
        ("dpu_recipes/./x.py", "'.' or '..' in it"),
        ("", "it is empty"),
        ("dpu_recipes//x.py", "an empty part"),
        ("dpu_recipes/", "an empty part"),
        ("/etc/passwd", "it is absolute"),
        ("dpu_recipes\\x.py", "a backslash is in it"),
        ("C:\\x.py", "a backslash is in it"),
        ("dpu_recipes/x\0.py", "a control character"),
        ("dpu_recipes/x\n644 1 0 y.py", "a control character"),
        ("dpu_recipes/x\x7f.py", "a control character"),
        ("dpu_recipes/" + "x" * 256, "more than 255 bytes"),
        ("dpu_recipes/" + "é" * 128, "more than 255 bytes"),
        ("x/" * 600 + "x", "more than 1024"),
    ],
)
def test_a_path_that_could_leave_its_folder_or_differ_between_systems_is_refused(path, why):
    with pytest.raises(BadTree, match=why):
        check([entry(path)])


@pytest.mark.parametrize(
    ("paths", "why"),
    [
        (["a/x.py", "a/X.py"], "'a/X.py': differs from 'a/x.py' only in case"),
        (["a/x.py", "A/y.py"], "differs from '[aA]' only in case"),
        (["a/straße.py", "a/STRASSE.py"], "only in case"),
        (["a/\u00e9.py", "a/e\u0301.py"], "how its letters are composed"),
        (["a/x.py", "a/x.py"], "'a/x.py': is there twice"),
        (["a", "a/x.py"], "'a': is a file and a folder"),
        (["a/b/c", "a/B"], "'a/b': is a file and a folder"),
    ],
)
def test_paths_that_are_one_on_some_file_system_are_refused(paths, why):
    with pytest.raises(BadTree, match=why):
        check([entry(path) for path in paths])


def test_a_name_that_is_no_utf_8_is_refused():
    from dpu.tree import check_path

    with pytest.raises(BadTree, match="the name is not UTF-8"):
        check_path("a/\udcff.py")


@pytest.mark.parametrize("mode", [0, 0o600, 0o777, 0o4755, 0o120777, 0o100644])
def test_only_two_modes_travel(mode):
    with pytest.raises(BadTree, match="is neither 644 nor 755"):
        check([entry("a/x.py", mode=mode)])


@pytest.mark.parametrize("wrong", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "../" + "0" * 61, "0" * 64 + "\n"])
def test_a_digest_is_64_lower_case_hexadecimal_digits(wrong):
    bad = entry("a/x.py")
    bad.digest = wrong
    with pytest.raises(BadTree, match="is not a SHA-256"):
        check([bad])


def test_a_tree_without_files_is_refused():
    with pytest.raises(BadTree, match="the tree is empty"):
        check([])


def test_a_size_below_nothing_is_refused():
    with pytest.raises(BadTree, match="less than no bytes"):
        check([entry("a/x.py", size=-1)])


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (Limits(files=19), "the tree has 20 files, more than the 19 that may travel"),
        (Limits(file_bytes=18), "a file has more than the 18 bytes that may travel"),
        (Limits(tree_bytes=189), "the tree has 190 bytes, more than the 189 bytes that may travel"),
    ],
)
def test_a_tree_that_is_too_large_is_refused_with_its_ten_largest_files(limits, why):
    with pytest.raises(BadTree) as refused:
        check_sizes([(f"a/{size}.dat", size) for size in range(20)], limits)
    first, *listed = refused.value.message.splitlines()
    assert first.startswith(why)
    assert [line.split()[-1] for line in listed] == [f"a/{size}.dat" for size in range(19, 9, -1)]


def test_what_is_just_small_enough_travels():
    check_sizes([(f"a/{size}.dat", size) for size in range(20)], Limits(files=20, file_bytes=19, tree_bytes=190))


def test_a_hundred_thousand_files_are_refused():
    with pytest.raises(BadTree, match="100000 files, more than the 20000"):
        check_sizes([(f"a/{number}.py", 1) for number in range(100_000)])


def test_a_good_tree_passes():
    check([entry("dpu_recipes/__init__.py", b""), entry("dpu_recipes/a b/é.py"), entry("dpu_recipes/run", mode=0o755)])


def test_the_digest_of_a_tree_is_that_of_its_sorted_lines():
    entries = [entry("b.py", b"bee", mode=0o755), entry("a.py", b"ay")]
    lines = f"644 2 {digest(b'ay')} a.py\n755 3 {digest(b'bee')} b.py\n"
    assert digest_of(entries) == digest_of(entries[::-1]) == hashlib.sha256(lines.encode()).hexdigest()
