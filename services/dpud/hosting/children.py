"""Signals for child processes of an event loop."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from asyncio.subprocess import Process


def send_signal(child: Process, number: signal.Signals) -> None:
    """Send a signal to a child, or nothing where it has ended.

    `Process.kill` and its like poll the child first, which takes the exit code of one that has just ended away from the
    loop: `wait` then answers 255, whatever the child ended by.
    """
    if child.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(child.pid, number)
