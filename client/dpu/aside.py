"""Calls made beside the main thread, so that Ctrl-C never meets one inside gRPC.

Python raises KeyboardInterrupt in the main thread, wherever that is: also between taking a lock and giving it back. A
channel whose lock was lost so answers nobody any more. In another thread nothing is interrupted, and whoever waits is.
To begin a thread takes longer than a call's way there and back: one that has done its call waits for the next.
"""

from __future__ import annotations

import contextvars
import os
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = TypeVar("Answer")

#: A Ctrl-C that comes in the instant before the waiting begins is heeded so much later.
LOOK_S = 0.5
#: Where threads that have nothing to do wait for an action.
_idle: list[SimpleQueue[Callable[[], None]]] = []
# Of a process that forks only the thread that forks goes on in the child.
os.register_at_fork(after_in_child=_idle.clear)


def aside(action: Callable[[], Answer]) -> Answer:
    """Return what `action` returns, or raise what it raises; where this is the main thread, it runs in another.

    Ctrl-C ends the waiting at once; the action goes on to its own end, and its outcome is nobody's.
    """
    if threading.current_thread() is not threading.main_thread():
        return action()
    outcomes: SimpleQueue[Callable[[], Answer]] = SimpleQueue()
    # What the caller is in, as a trace, its calls are in, too.
    context = contextvars.copy_context()
    inbox = _idle.pop() if _idle else _begun()

    def act() -> None:
        outcome = context.run(_settled, action)
        # First: whoever waits may have another action the next moment.
        _idle.append(inbox)
        outcomes.put(outcome)

    inbox.put(act)
    while True:
        try:
            outcome = outcomes.get(timeout=LOOK_S)
        except Empty:
            continue
        return outcome()


def _begun() -> SimpleQueue[Callable[[], None]]:
    """Begin a thread; return where it takes its actions from."""
    inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
    threading.Thread(target=_act, args=(inbox,), name="dpu call", daemon=True).start()
    return inbox


def _act(inbox: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        inbox.get()()


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
