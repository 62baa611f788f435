"""A checkout of the recipes that somebody works in, and sessions on a DPU of their own."""

import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dpu_recipes
from dpu import local
from dpu.config import Config
from dpu.ingest import find_files, ingest
from dpu.processor import Processor
from dpu.report import Reporter
from fakes_codeship import commit

BIAS = "services/dpu_recipes/tasks/bias.py"
KERNEL = "services/dpu_recipes/ccd/kernel_of_mine.py"
NIGHT = ("--instrument", "WFI", "--chips", "1", "--scale", "0.05", "--biases", "3", "--seed", "7")
#: The value of a bias that shows which version of the recipe made it.
COUNT = '"NCOMBINE": len(biases),'

COMPILED = """
import numba

@numba.njit(cache=True)
def counted(number, more):
    return number + more
"""


def checkout(folder: Path, more: int) -> Path:
    """Make a checkout of the recipes as they are, but that a compiled kernel adds `more` to NCOMBINE of a bias."""
    ours = Path(dpu_recipes.__file__).parent
    shutil.copytree(ours, folder / "services/dpu_recipes", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pyproject.toml").write_text('[tool.dpu]\nship = ["services/dpu_recipes"]\n')
    (folder / KERNEL).write_text(COMPILED)
    recipe = folder / BIAS
    text = recipe.read_text()
    assert text.count(COUNT) == 1
    begun = "from __future__ import annotations\n"
    text = text.replace(begun, f"{begun}\nfrom dpu_recipes.ccd.kernel_of_mine import counted\n")
    recipe.write_text(text.replace(COUNT, f'"NCOMBINE": counted(len(biases), {more}),'))
    commit(folder)
    return folder


def change(folder: Path, before: int, after: int) -> None:
    """Change the one line that says how much is added."""
    recipe = folder / BIAS
    text = recipe.read_text()
    assert text.count(f"counted(len(biases), {before})") == 1
    recipe.write_text(text.replace(f"counted(len(biases), {before})", f"counted(len(biases), {after})"))


class Session:
    """A session at the prompt, with what it prints."""

    def __init__(self, home: Path, checkout: Path) -> None:
        self.out = io.StringIO()
        config = Config(home=home, username="ann")
        self.dpu = Processor(config, reporter=Reporter(host="here", out=self.out), find_checkout=lambda: checkout)

    def run(self, sequence: str, **options: object) -> int:
        """Run a sequence to its end and return the job."""
        job = self.dpu.run(sequence, i="WFI", d="2000-04-28", C=1, **options)
        assert self.dpu.wait(job, timeout=100) == "FINISHED", self.logs(job)
        return job

    def logs(self, job: int) -> str:
        return str(self.dpu.get_logs(job))

    def sent(self) -> list[str]:
        """Return what was said of code that travelled, since this was asked last."""
        lines = [line.partition(" - ")[2] for line in self.out.getvalue().splitlines() if " - Sent " in line]
        self.out.truncate(0)
        return lines


@contextmanager
def a_dpu_with_biases(folder: Path) -> Iterator[Path]:
    """Run a DPU that has the biases of a night; give its home."""
    night, home = folder / "night", folder / "home"
    subprocess.run([sys.executable, "-m", "dpu_recipes.simulate", night, *NIGHT], check=True, capture_output=True)
    processor = Processor(Config(home=home, username="ann"), reporter=Reporter(out=io.StringIO()))
    try:
        ingest(processor.link, find_files([night / "raw"]), lambda _: None)
        yield home
    finally:
        processor.close()
        local.stop(home)
