"""`awe -c` and `awe FILE.py`: what runs there, what is printed of an error, and the exit code."""

import subprocess
import sys

import pytest

from dpu.processor import Processor
from dpu.prompt import banner, main

IMPORTS = "import sys, dpu; print([name for name in ('grpc', 'IPython', 'rich', 'google') if name in sys.modules])"


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """A DPU that is configured and not there."""
    (tmp_path / "token").write_text("x")
    text = f'default = "x"\nusername = "osada"\n[dpus.x]\naddress = "unix:{tmp_path}/none"\ntoken_file = "token"\n'
    (tmp_path / "config.toml").write_text(text)
    monkeypatch.setenv("DPU_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)


def test_code_runs_with_dpu_and_its_arguments(capsys):
    assert main(["-c", "import sys; print(dpu.get_dpu_identifiers(), sys.argv, __name__)", "a", "-b"]) == 0
    assert capsys.readouterr().out == "['local', 'x'] ['-c', 'a', '-b'] __main__\n"


def test_a_file_runs_with_dpu_its_arguments_and_its_folder(tmp_path, capsys):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "beside.py").write_text("value = 7\n")
    (tmp_path / "scripts" / "mine.py").write_text("import sys, beside\nprint(beside.value, dpu, sys.argv[1:])\n")
    assert main(["scripts/mine.py", "--fast"]) == 0
    assert capsys.readouterr().out == (
        "7 <Processor of DPU 'x', project 'default': dpu.help() tells what it can do> ['--fast']\n"
    )


@pytest.mark.parametrize(
    ("code", "exit_code", "line"),
    [
        ("dpu.select_dpu('y')", 2, "awe: there is no DPU 'y'; known are local, x"),
        ("from dpu.errors import *; raise StorageFull('no\\nspace')", 1, "awe: no space"),
        ("dpu.get_status()", 4, "awe: DPU 'x' cannot be reached: "),
        ("raise KeyboardInterrupt", 130, "awe: interrupted"),
    ],
)
def test_an_error_of_the_dpu_is_one_line_and_an_exit_code(capsys, code, exit_code, line):
    assert main(["-c", code]) == exit_code
    (only,) = capsys.readouterr().err.splitlines()
    assert only.startswith(line)


def test_an_error_of_the_users_own_is_shown_as_python_shows_it(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("def divide():\n    1 / 0\n\ndivide()\n")
    assert main(["mine.py"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "Traceback (most recent call last):",
        '  File "mine.py", line 4, in <module>',
        "    divide()",
        '  File "mine.py", line 2, in divide',
        "    1 / 0",
        "    ~~^~~",
        "ZeroDivisionError: division by zero",
    ]


def test_what_the_code_exits_with_is_the_exit_code():
    with pytest.raises(SystemExit, match="^3$"):
        main(["-c", "raise SystemExit(3)"])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["none.py"], "awe: 'none.py' cannot be run: No such file or directory (`awe --help` lists the commands)"),
        (["."], "awe: '.' cannot be run: Is a directory (`awe --help` lists the commands)"),
    ],
)
def test_a_file_that_is_not_there_is_used_wrongly(capsys, arguments, line):
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize("arguments", [["-c"], ["--nonsense"], ["-x", "file.py"]])
def test_arguments_that_mean_nothing_are_used_wrongly(arguments):
    with pytest.raises(SystemExit, match="^2$"):
        main(arguments)


def test_a_configuration_that_is_wrong_is_one_line(tmp_path, capsys):
    (tmp_path / "config.toml").write_text("projct = 'x'\n")
    assert main(["-c", "pass"]) == 2
    assert capsys.readouterr().err.startswith(
        f"awe: {tmp_path}/config.toml: projct is unknown (did you mean 'project'?)"
    )


def test_version_and_help_answer_without_a_dpu(capsys):
    for arguments, words in ((["--version"], "awe 0.1.0"), (["--help"], "awe ingest PATH...")):
        with pytest.raises(SystemExit, match="^0$"):
            main(arguments)
        assert words in capsys.readouterr().out


def test_the_banner_is_the_environments_own(tmp_path):
    assert banner(Processor()).partition("\n\n")[2] == (
        "                 Welcome to the Astro-WISE Environment\n"
        "\n"
        "Importing Astro-WISE packages. Please wait...\n"
        "Initializing Distributed Processing Unit...\n"
        "\n"
        "Current profile:\n"
        "  - username : osada\n"
        f"  - database : unix:{tmp_path}/none\n"
        "  - project  : default\n"
        "\n"
    )


def test_importing_dpu_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_python_m_dpu_is_awe():
    done = subprocess.run([sys.executable, "-m", "dpu", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "awe 0.1.0\n"
