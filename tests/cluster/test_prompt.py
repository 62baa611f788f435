"""`awe` in a real terminal: it opens, runs lines, shows an error as one line, and ends."""

import os
import sys
from pathlib import Path

import pexpect
import pytest

PROMPT = r"awe> "
READY = "\x1b\\[\\?25h"  # the cursor is shown again: the prompt reads keys


@pytest.fixture
def awe(tmp_path):
    """A prompt of somebody whose DPU is not there."""
    (tmp_path / "token").write_text("x")
    text = f'default = "x"\nusername = "osada"\n[dpus.x]\naddress = "unix:{tmp_path}/none"\ntoken_file = "token"\n'
    (tmp_path / "config.toml").write_text(text)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TERM": "xterm",
        "LANG": "C.UTF-8",
        "DPU_CONFIG": str(tmp_path / "config.toml"),
        # Nobody answers where the cursor is in a test's terminal.
        "PROMPT_TOOLKIT_NO_CPR": "1",
    }
    command = str(Path(sys.executable).with_name("awe"))
    child = pexpect.spawn(command, env=environment, encoding="utf-8", timeout=60, dimensions=(30, 100))
    yield child
    child.close(force=True)


def ready(child: pexpect.spawn) -> str:
    """Wait for the prompt; return what was shown before it."""
    child.expect(PROMPT)
    shown = child.before.replace("\r\n", "\n")
    child.expect(READY)
    return shown


def test_the_prompt_opens_with_the_banner_runs_lines_and_ends_with_ctrl_d(awe, tmp_path):
    shown = ready(awe)
    assert shown.index("Python 3.") < shown.index("                 Welcome to the Astro-WISE Environment\n\nImporting")
    assert (
        "Importing Astro-WISE packages. Please wait...\n"
        "Initializing Distributed Processing Unit...\n\n"
        "Current profile:\n"
        "  - username : osada\n"
        f"  - database : unix:{tmp_path}/none\n"
        "  - project  : default\n\n"
    ) in shown
    awe.sendline("6 * 7")
    awe.expect_exact("42\r\n")
    ready(awe)
    awe.sendline("dpu.get_dpu_identifiers()")
    awe.expect_exact("['local', 'x']\r\n")
    ready(awe)
    awe.sendeof()
    awe.expect(pexpect.EOF)
    awe.close()
    assert awe.exitstatus == 0


def test_an_error_of_the_dpu_is_one_line_and_the_prompt_goes_on(awe):
    ready(awe)
    awe.sendline("dpu.get_status()")
    awe.expect_exact("Unreachable: DPU 'x' cannot be reached: ")
    assert "Traceback" not in ready(awe)
    awe.sendline("1 / 0")
    awe.expect_exact("ZeroDivisionError")
    ready(awe)
    awe.sendline("import time; print(6 * 7); time.sleep(60)")
    awe.expect_exact("42\r\n")
    awe.sendintr()
    awe.expect_exact("KeyboardInterrupt\r\n")
    assert "Traceback" not in ready(awe)
    awe.sendline("exit")
    awe.expect(pexpect.EOF)
    awe.close()
    assert awe.exitstatus == 0


def test_the_tab_key_completes_a_sequence(awe):
    ready(awe)
    awe.send("dpu.run('HotPi\t")
    awe.expect("HotPi.*xels")
    awe.sendline("', i='WFI', dat='x')")
    awe.expect_exact("UnknownOption: HotPixels has no option 'dat' (did you mean 'date'?)")
    assert "Traceback" not in ready(awe)


def test_a_narrow_window_is_no_fault(awe):
    ready(awe)
    awe.setwinsize(20, 24)
    awe.sendline("len(dpu.get_dpu_identifiers())")
    awe.expect_exact("2\r\n")
    ready(awe)


def test_pars_and_help_answer_with_no_dpu_in_reach(awe):
    ready(awe)
    awe.sendline("Pars(BiasFrame).BiasFrame.process_params.SIGMA_CLIP")
    awe.expect_exact("3.0\r\n")
    ready(awe)
    awe.sendline("dpu.help()")
    awe.expect_exact("dpu.get_sequence_options(sequence)")
    ready(awe)
