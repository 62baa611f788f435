"""What is left behind in a real process: each case in one of its own."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, subprocess, sys, tempfile, threading, time
from dpud.worker.leftovers import differences, state
before = state()
{leave}
print(*differences(before, state()), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(
    ("leave", "word"),
    [
        ("", ""),
        ("threading.Thread(target=time.sleep, args=(60,)).start()", "threads"),
        ("child = subprocess.Popen(['sleep', '0'])", "child processes"),
        ("subprocess.run(['true'])", ""),
        ("signal.signal(signal.SIGUSR1, signal.SIG_IGN)", "signal handlers"),
        ("os.chdir(tempfile.mkdtemp()); os.rmdir(os.getcwd())", "working folder"),
        ("os.umask(0)", "umask"),
        ("os.environ['LEFT'] = '1'", "environment"),
        ("os.close(0)", "standard files"),
        ("kept = [open(os.devnull) for _ in range(40)]", "open files"),
    ],
)
def test_what_a_task_leaves_is_seen(leave: str, word: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(leave=leave)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == word
