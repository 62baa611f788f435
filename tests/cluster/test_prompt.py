"""`awe` in a real terminal: it opens, runs lines, shows an error as one line, and ends."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from dpu_api.v1 import job_pb2
from fakes_client import SECRET, Script, job, serving, task

PROMPT = r"awe> "
READY = "\x1b\\[\\?25h"  # the cursor is shown again: the prompt reads keys


@pytest.fixture
def awe(tmp_path):
    """A prompt of somebody whose DPU is not there."""
    yield from prompting(tmp_path, f"unix:{tmp_path}/none")


@pytest.fixture
def awe_at_work(tmp_path):
    """A prompt of somebody with a job of two tasks, of which one has ended and the other goes on for ever."""
    running = job(state=job_pb2.JOB_STATE_RUNNING, counts=job_pb2.TaskCounts(normal=1, submitted=1))
    tasks = [task(0, "ccd50"), task(1, "ccd51", job_pb2.TASK_STATE_RUNNING)]
    with serving(tmp_path, Script(jobs={running.id: running}, tasks=tasks)) as address:
        yield from prompting(tmp_path, address)


def prompting(folder: Path, address: str) -> Iterator[pexpect.spawn]:
    """Open the prompt on a DPU in a terminal of 100 columns."""
    (folder / "token").write_text(SECRET)
    text = f'default = "x"\nusername = "osada"\n[dpus.x]\naddress = "{address}"\ntoken_file = "token"\n'
    (folder / "config.toml").write_text(text)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TERM": "xterm",
        "LANG": "C.UTF-8",
        "DPU_CONFIG": str(folder / "config.toml"),
        # Nobody answers where the cursor is in a test's terminal.
        "PROMPT_TOOLKIT_NO_CPR": "1",
    }
    command = str(Path(sys.executable).with_name("awe"))
    child = pexpect.spawn(command, env=environment, cwd=folder, encoding="utf-8", timeout=60, dimensions=(30, 100))
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


def test_a_waited_job_has_a_bar_a_stage_that_ctrl_c_leaves(awe_at_work):
    ready(awe_at_work)
    awe_at_work.sendline("dpu.wait(84820)")
    awe_at_work.expect("Bias .*1/2")
    awe_at_work.sendintr()
    awe_at_work.expect_exact("KeyboardInterrupt\r\n")
    assert "Traceback" not in ready(awe_at_work)
    # In a window that is narrower than the bar.
    awe_at_work.setwinsize(20, 24)
    awe_at_work.sendline("dpu.wait(84820)")
    awe_at_work.expect("Bias")
    awe_at_work.sendintr()
    awe_at_work.expect_exact("KeyboardInterrupt\r\n")
    assert "Traceback" not in ready(awe_at_work)


def test_ctrl_c_leaves_a_followed_job_which_goes_on(awe_at_work):
    ready(awe_at_work)
    awe_at_work.sendline("dpu.run('Bias', i='WFI', d='2000-04-28', send_code=False, follow=True)")
    awe_at_work.expect("Sending job with identifier 82382 to DPU")
    awe_at_work.expect("Bias .*1/2")
    awe_at_work.sendintr()
    awe_at_work.expect_exact("Job 82382 goes on: dpu.wait(82382), dpu.get_logs(82382), dpu.cancel_job(82382)")
    shown = ready(awe_at_work)
    assert "82382" in shown
    assert "Traceback" not in shown
