"""Calls made beside the main thread, so that Ctrl-C never meets one inside gRPC.

Python raises KeyboardInterrupt in the main thread, wherever that is: also between taking a lock and giving it back. A
channel whose lock was lost so answers nobody any more. In another thread nothing is interrupted, and whoever waits is.
"""

from __future__ import annotations

import contextvars
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = TypeVar("Answer")


def aside(action: Callable[[], Answer]) -> Answer:
    """Return what `action` returns, or raise what it raises; where this is the main thread, it runs in another.

    Ctrl-C ends the waiting at once; the action goes on to its own end, and its outcome is nobody's.
    """
    if threading.current_thread() is not threading.main_thread():
        return action()
    outcomes: SimpleQueue[Callable[[], Answer]] = SimpleQueue()
    # What the caller is in, as a trace, its calls are in, too.
    context = contextvars.copy_context()
    threading.Thread(target=lambda: outcomes.put(context.run(_settled, action)), name="dpu call", daemon=True).start()
    return outcomes.get()()


def _settled(action: Callable[[], Answer]) -> Callable[[], Answer]:
    """Return what gives the outcome of `action`, good or bad."""
    try:
        answer = action()
    except BaseException as error:  # noqa: BLE001 (raised again where the outcome is wanted)
        caught = error

        def fail() -> Answer:
            raise caught

        return fail
    return lambda: answer
