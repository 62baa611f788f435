"""What a user can give or call stands in the reference, and nothing else does."""

import re
from pathlib import Path

import pytest

from dpu.options import DPU_OPTIONS
from dpu.processor import Processor
from dpu.prompt import COMMANDS
from dpu.shell import VERBS

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def first_cells(page: str, heading: str) -> set[str]:
    """Return the code words in the first cells of the tables below a heading."""
    section = (REFERENCE / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    return {word for cell in cells for word in re.findall(r"`([\w.]+)", cell)}


def test_every_method_of_dpu_is_in_the_reference():
    methods = {name for name in vars(Processor) if not name.startswith("_")} - {"catalogue", "link"}
    assert first_cells("prompt.md", "`dpu`") == methods


def test_every_option_of_the_dpu_is_in_the_reference():
    assert first_cells("options.md", "Of the DPU") == {*DPU_OPTIONS, "follow"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_reference(command):
    assert f"| `awe {command}" in (REFERENCE / "prompt.md").read_text()


def test_every_key_and_variable_of_the_configuration_is_in_the_reference():
    read = "".join(
        (Path(__file__).parents[2] / "client" / "dpu" / name).read_text() for name in ("config.py", "local.py")
    )
    assert first_cells("configuration.md", "The file") == {
        *("default", "project", "username"),
        *(f"dpus.NAME.{key}" for key in ("address", "token_file", "issuer", "client_id", "archive", "logs", "code")),
    }
    variables = first_cells("configuration.md", "The environment")
    assert variables == {*re.findall(r"\"(DPU_[A-Z_]+)\"", read), "AWEPIPE"}


def test_every_verb_of_the_shell_is_in_the_reference():
    rows = (REFERENCE / "prompt.md").read_text().split("\n## `dpu` in the shell\n")[1]
    assert set(re.findall(r"^\| `dpu (\w+)", rows, re.MULTILINE)) == set(VERBS)
