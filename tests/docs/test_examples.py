"""Every console and awe block of the documentation runs, a page at a time, in an empty folder with a DPU of its own.

What is printed is compared with what the page shows; `...` stands for anything, as in doctest. A ```python block with a
title is written to the file that the title names. A block that is not meant to run is a ```text block.
"""

import doctest
import itertools
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dpu import local

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r'^```(console|awe|python title="[^"]+")\n(.*?)^```$', re.MULTILINE | re.DOTALL)
PROMPTS = {"console": "$ ", "awe": "awe> "}
PAGES = [page for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))] if BLOCK.search(page.read_text())]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
#: Runs its statements one by one, and shows the value of an expression as a prompt does.
DRIVER = """
for number, source in enumerate({sources!r}):
    print(chr(30) + str(number), flush=True)
    exec(compile(source, "<page>", "single"), globals())
"""

pytestmark = pytest.mark.timeout(300)


@dataclass
class Example:
    kind: str
    source: str
    want: str = ""


@dataclass
class Page:
    folder: Path
    environment: dict[str, str]
    failures: list[str] = field(default_factory=list)

    def run(self, examples: list[Example]) -> None:
        for kind, group in itertools.groupby(examples, key=lambda example: example.kind):
            match kind:
                case "console":
                    self.shell(list(group))
                case "awe":
                    self.prompt(list(group))
                case _:
                    self.write(self.folder / kind.split('"')[1], next(group).source)

    def write(self, file: Path, text: str) -> None:
        """Write a new file into a folder that is there."""
        with file.open("x") as new:
            new.write(text)

    def shell(self, examples: list[Example]) -> None:
        """All in one shell, so that variables and background processes live on."""
        marked = "\n".join(f"printf '\\x1e%s\\n' {n}\n{example.source}" for n, example in enumerate(examples))
        self.compare(examples, self.output(["bash", "-c", marked]))

    def prompt(self, examples: list[Example]) -> None:
        script = self.folder / ".statements.py"
        script.write_text(DRIVER.format(sources=[example.source + "\n" for example in examples]))
        self.compare(examples, self.output(["awe", str(script)]))

    def output(self, command: list[str]) -> str:
        with (self.folder / ".output").open("w+") as out:
            subprocess.run(
                command, cwd=self.folder, env=self.environment, stdout=out, stderr=out, timeout=240, check=False
            )
            out.seek(0)
            return out.read()

    def compare(self, examples: list[Example], output: str) -> None:
        checker = doctest.OutputChecker()
        pieces = dict(re.findall(r"\x1e(\d+)\n([^\x1e]*)", output))
        for number, example in enumerate(examples):
            got = pieces.get(str(number), "(it did not run)")
            if not checker.check_output(example.want, got, OPTIONS):
                self.failures.append(f"{PROMPTS[example.kind]}{example.source}\nshows\n{example.want}\nbut got\n{got}")


def examples_of(page: Path) -> list[Example]:
    found: list[Example] = []
    for kind, text in BLOCK.findall(page.read_text()):
        if kind not in PROMPTS:
            found.append(Example(kind, text))
            continue
        for line in text.splitlines():
            if line.startswith(PROMPTS[kind]):
                found.append(Example(kind, line.removeprefix(PROMPTS[kind])))
            elif line.startswith(("...> ", "> ")):
                found[-1].source += "\n" + line.split("> ", 1)[1]
            else:
                found[-1].want += line + "\n"
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_page_tells_the_truth(page: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "DPU_HOME": str(tmp_path / "dpu"),
        "DPU_USER": "ann",
        "COLUMNS": "120",
        "LANG": "C.UTF-8",
    }
    shown = Page(empty, environment)
    try:
        shown.run(examples_of(page))
    finally:
        local.stop(tmp_path / "dpu")
    assert not shown.failures, "\n\n".join(shown.failures)
