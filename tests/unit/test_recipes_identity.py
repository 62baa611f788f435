"""What is made again, and what stands."""

import logging
import shutil
from pathlib import Path

import pytest

from dpu_recipes import identity
from dpu_recipes.archive import Selection
from dpu_recipes.task import RecipeError
from fakes_recipes import Night


@pytest.fixture
def night(tmp_path: Path) -> Night:
    made = Night(tmp_path)
    for _ in range(4):
        made.bias()
    return made


@pytest.fixture
def a_whole_night(night: Night) -> Night:
    for recipe in ("ReadNoise", "Bias", "HotPixels"):
        assert len(night.run(recipe)) == 1
    return night


def again(night: Night, **options: object) -> list[str]:
    """Run everything once more and return the classes of what was made."""
    return [
        frame.frame_class for recipe in ("ReadNoise", "Bias", "HotPixels") for frame in night.run(recipe, **options)
    ]


def set_invalid(night: Night, frame_class: str) -> None:
    """Set the newest product of a class invalid."""
    archive = night.archive
    newest = max(archive.select(frame_class, Selection(instrument="WFI")), key=lambda frame: frame.creation_date)
    archive._frames[newest.id] = newest.evolve(is_valid=False)


def test_an_unchanged_night_is_not_made_again_and_the_log_says_so(a_whole_night, caplog):
    with caplog.at_level(logging.INFO, "dpu_recipes"):
        assert again(a_whole_night) == []
    said = [record.getMessage() for record in caplog.records if "not made again" in record.getMessage()]
    assert [line.split()[0] for line in said] == ["ReadNoise", "BiasFrame", "HotPixelMap"]


def test_force_makes_it_again(a_whole_night):
    assert again(a_whole_night, force=1) == ["ReadNoise", "BiasFrame", "HotPixelMap"]


def test_other_parameters_make_another_product(a_whole_night):
    assert len(a_whole_night.run("Bias", pars={"BiasFrame.process_params.SIGMA_CLIP": 4.0})) == 1
    # Those of another class are not this one's.
    assert a_whole_night.run("ReadNoise", pars={"BiasFrame.process_params.SIGMA_CLIP": 4.0}) == []


def test_another_overscan_method_makes_another_product(a_whole_night):
    assert len(a_whole_night.run("Bias", overscan=0)) == 1


def test_another_frame_makes_another_product(a_whole_night):
    a_whole_night.bias()
    made = again(a_whole_night)
    # The first two biases, from which the read noise is measured, are what they were.
    assert made == ["BiasFrame", "HotPixelMap"]


def test_whether_it_is_committed_is_no_part_of_a_product(a_whole_night):
    assert again(a_whole_night, commit=1) == []


def test_after_a_bias_is_set_invalid_exactly_what_depends_on_it_is_made_again(a_whole_night):
    set_invalid(a_whole_night, "BiasFrame")
    assert again(a_whole_night) == ["BiasFrame", "HotPixelMap"]
    assert again(a_whole_night) == []


def test_what_was_made_from_a_bias_that_is_invalid_now_does_not_stand(a_whole_night):
    set_invalid(a_whole_night, "BiasFrame")
    with pytest.raises(RecipeError, match=r"no BiasFrame .* may be used: .*has is_valid=0"):
        a_whole_night.run("HotPixels")


def test_a_product_is_outdated_when_a_calibration_that_it_asked_for_is_another(a_whole_night):
    assert len(a_whole_night.run("ReadNoise", force=1)) == 1
    assert again(a_whole_night) == ["BiasFrame", "HotPixelMap"]


def test_what_a_recipe_asks_of_its_own_class_is_no_input(a_whole_night):
    (bias,) = a_whole_night.products("BiasFrame")
    assert bias.consulted
    assert '"ReadNoise"' in bias.consulted
    assert "BiasFrame" not in bias.consulted


# --- the code


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A copy of the recipes whose files a test may change; gives what returns the digest of a module there."""
    root = tmp_path / "tree" / "dpu_recipes"
    shutil.copytree(Path(identity.__file__).parent, root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(identity, "__file__", str(root / "identity.py"))

    def digest(module: str = "dpu_recipes.tasks.bias") -> str:
        identity.code_digest.cache_clear()
        identity._read.cache_clear()
        return identity.code_digest(module)

    yield root, digest
    identity.code_digest.cache_clear()
    identity._read.cache_clear()


def change(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))


def test_a_change_in_a_function_that_a_recipe_uses_is_a_change(tree):
    root, digest = tree
    before, other = digest(), digest("dpu_recipes.tasks.quick_check")
    change(root / "tasks" / "bias.py", "GRID = 8", "GRID = 9")
    assert digest() != before
    assert digest("dpu_recipes.tasks.quick_check") == other


def test_a_change_far_down_is_a_change(tree):
    root, digest = tree
    before = digest()
    with (root / "ccd" / "overscan.py").open("a") as file:
        file.write("\nLIMIT = 3\n")
    assert digest() != before


def test_a_change_of_words_is_none(tree):
    root, digest = tree
    before = digest()
    (root / "README.md").write_text("What this is.\n")
    (root / "tasks" / "strange.py").write_text("import nothing_that_there_is\n")
    file = root / "tasks" / "bias.py"
    change(file, '"""Bias: the master bias, from the biases of a night."""', '"""Bias."""\n\n# Why it is so.')
    change(file, '"""Make and save the bias of one chip."""', '"""Make it."""')
    assert digest() == before


def test_the_closure_is_what_is_imported_wherever_and_however(tree):
    root, digest = tree
    (root / "one.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from dpu_recipes import six\n"
        "from . import two\n"
        "def f():\n    try:\n        import dpu_recipes.three\n"
        "    except ImportError:\n        from .tasks import four\n"
        "    match f:\n        case 1:\n            from dpu_recipes.five import g\n"
    )
    files = {name: root / f"{name}.py" for name in ("two", "three", "five", "six")} | {"four": root / "tasks/four.py"}
    for file in files.values():
        file.write_text("X = 1\n")
    followed = set()
    for name, file in files.items():
        before = digest("dpu_recipes.one")
        file.write_text("X = 2\n")
        if digest("dpu_recipes.one") != before:
            followed.add(name)
    assert followed == {"two", "three", "four", "five"}


def test_two_processes_agree_on_code_with_a_set(tree):
    _, digest = tree
    code = compile("x in {'a', 'b', 'c'}", "m", "eval")
    assert all(not isinstance(part, frozenset) for part in identity._instructions(code))
    assert digest() == digest()


def test_a_library_that_is_not_there_has_no_version():
    assert identity._version("surely-there-is-no-such-library") == ""
    assert identity._versions().keys() == {"python", *identity.LIBRARIES}


def test_other_packages_of_the_tree_make_another_product(a_whole_night, tmp_path, monkeypatch):
    lock = tmp_path / "requirements.lock"
    monkeypatch.setattr(identity, "LOCK", lock)
    lock.write_text("greeting==1.0\n")
    assert again(a_whole_night) == ["ReadNoise", "BiasFrame", "HotPixelMap"]
    assert again(a_whole_night) == []
    lock.write_text("greeting==2.0\n")
    assert again(a_whole_night) == ["ReadNoise", "BiasFrame", "HotPixelMap"]
