"""What a kernel is made of: its compiled code is used again where all of that is the same, and nowhere else."""

from pathlib import Path

import pytest

from dpud.worker.kernels import closure_digest
from fakes_codeship import write

KERNEL = "awe.ccd.kernel"
FILES = {
    "awe/__init__.py": "",
    "awe/ccd/__init__.py": "from . import limits\n",
    "awe/ccd/kernel.py": (
        "import numba\nfrom awe.ccd.median import median\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from awe.ccd.stack import Layer\n"
    ),
    "awe/ccd/median.py": "def median():\n    from ..constants import (\n        SIGMA,\n    )\n",
    "awe/ccd/limits.py": "LOW = 1\n",
    "awe/ccd/stack.py": "from awe.ccd.kernel import *\n",
    "awe/constants.py": "SIGMA = 3\n",
    "awe/bias.py": "from awe.ccd import kernel\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write(tmp_path, FILES)


@pytest.mark.parametrize("changed", ["awe/ccd/kernel.py", "awe/ccd/median.py", "awe/constants.py", "awe/ccd/limits.py"])
def test_a_change_of_what_a_kernel_is_made_of_is_another_kernel(tree: Path, changed: str) -> None:
    before = closure_digest(tree, KERNEL)
    (tree / changed).write_text((tree / changed).read_text() + "# changed\n")
    assert closure_digest(tree, KERNEL) != before


@pytest.mark.parametrize("changed", ["awe/bias.py", "awe/ccd/stack.py"])
def test_a_change_elsewhere_is_not(tree: Path, changed: str) -> None:
    before = closure_digest(tree, KERNEL)
    (tree / changed).write_text((tree / changed).read_text() + "# changed\n")
    assert closure_digest(tree, KERNEL) == before


def test_where_the_tree_lies_does_not_matter(tree: Path, tmp_path: Path) -> None:
    assert closure_digest(write(tmp_path / "elsewhere", FILES), KERNEL) == closure_digest(tree, KERNEL)


def test_what_cannot_be_read_is_only_counted(tree: Path) -> None:
    before = closure_digest(tree, KERNEL)
    (tree / "awe/constants.py").write_text("SIGMA = = 3\n")
    assert closure_digest(tree, KERNEL) != before
