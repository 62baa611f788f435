"""`lpu`: sequences in this process, without a DPU, where a debugger reaches them."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dpu_recipes
from dpu.errors import UnknownOption
from dpu.lpu import Lpu
from dpu.report import Reporter

#: Each loads and compiles the recipes, some more than once: a busy machine takes its time.
pytestmark = pytest.mark.timeout(600)
NIGHT = ("--instrument", "WFI", "--chips", "1", "--scale", "0.05", "--biases", "3", "--seed", "7")
ASKED = {"i": "WFI", "d": "2000-04-28"}
RUN = "    def run(self, request: Request, spec: TaskSpec) -> None:\n"
BIAS = "services/dpu_recipes/tasks/bias.py"


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("night") / "night"
    subprocess.run([sys.executable, "-m", "dpu_recipes.simulate", folder, *NIGHT], check=True, capture_output=True)
    return folder / "raw"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout with the recipes as they stand."""
    ours, folder = Path(dpu_recipes.__file__).parent, tmp_path / "checkout"
    shutil.copytree(ours, folder / "services/dpu_recipes", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pyproject.toml").write_text('[tool.dpu]\nship = ["services/dpu_recipes"]\n')
    return folder


@pytest.fixture(autouse=True)
def _recipes_of_the_tests() -> Iterator[None]:
    """Give the modules of the other tests back."""
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "dpu_recipes"}
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "dpu_recipes"]:
        del sys.modules[name]
    sys.modules.update(before)


def lpu_of(folder: Path, checkout: Path | None, out: io.StringIO) -> Lpu:
    return Lpu(folder / "lpu", find_checkout=lambda: checkout, reporter=Reporter(out=out), cache=folder / "cache")


def saved(recipe: Path, line: str) -> None:
    """Save a recipe with a line more, the first that it runs."""
    head, tail = recipe.read_text().split(RUN)
    recipe.write_text(f"{head}{RUN}        {line}\n{tail}")


def test_a_sequence_runs_here_with_the_recipes_as_they_were_saved_last(
    tmp_path: Path, night: Path, checkout: Path
) -> None:
    out = io.StringIO()
    lpu = lpu_of(tmp_path, checkout, out)
    assert len(lpu.ingest(night)) == 3
    (noise,) = lpu.run("ReadNoise", **ASKED)
    assert noise.frame_class == "ReadNoise"
    (bias,) = lpu.run("Bias", **ASKED)
    assert bias.values["NCOMBINE"] == 3
    recipe = checkout / BIAS
    saved(recipe, "log.info('a line of mine')")
    before = list(sys.path)
    lpu.run("Bias", force=1, **ASKED)
    assert "a line of mine" in out.getvalue()
    assert sys.path == before
    # Another session finds what this one made.
    lpu_of(tmp_path, checkout, out).run("Bias", **ASKED)
    assert "it is not made again" in out.getvalue()


def test_a_wrong_option_is_refused_as_dpu_run_refuses_it(tmp_path: Path) -> None:
    with pytest.raises(UnknownOption, match="chp"):
        lpu_of(tmp_path, None, io.StringIO()).run("Bias", chp="ccd50", **ASKED)


def test_the_debugger_opens_in_a_recipe(tmp_path: Path, night: Path, checkout: Path) -> None:
    recipe = checkout / "services/dpu_recipes/tasks/read_noise.py"
    saved(recipe, "breakpoint()")
    code = f"lpu.ingest({str(night)!r}); made = lpu.run('ReadNoise', i='WFI', d='2000-04-28'); print(len(made))"
    session = subprocess.run(
        [Path(sys.executable).parent / "awe", "-c", code],
        env={**os.environ, "DPU_HOME": str(tmp_path / "home"), "AWEPIPE": str(checkout)},
        cwd=tmp_path,
        input="p 'label is', spec.label\nc\n",
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert "('label is', 'ccd50')" in session.stdout, session.stdout + session.stderr
    assert session.stdout.rstrip().endswith("1")
    assert not (tmp_path / "home" / "running.json").exists()
