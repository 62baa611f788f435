"""Signals to children of the loop: what a child ended by stays known."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE

import pytest

from dpud.hosting.children import send_signal


@pytest.mark.parametrize(("code", "end"), [("os.kill(os.getpid(), 11)", -signal.SIGSEGV), ("os._exit(3)", 3)])
async def test_a_child_that_ended_by_itself_keeps_its_exit_code(code, end):
    for _ in range(10):
        child = await asyncio.create_subprocess_exec(sys.executable, "-ISc", f"import os; {code}", stdout=PIPE)
        await child.stdout.read()  # it closes with the process, mostly before the loop has heard of the end
        send_signal(child, signal.SIGKILL)
        assert await child.wait() == end
    send_signal(child, signal.SIGKILL)


async def test_a_child_that_runs_is_signalled():
    child = await asyncio.create_subprocess_exec(sys.executable, "-ISc", "import time; time.sleep(60)")
    send_signal(child, signal.SIGKILL)
    assert await child.wait() == -signal.SIGKILL
