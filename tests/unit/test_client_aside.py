"""Calls beside the main thread."""

import os
import signal
import threading
import time

import pytest

from dpu.aside import aside
from dpu.errors import Unreachable


def test_from_the_main_thread_another_runs_it():
    assert aside(threading.current_thread) is not threading.main_thread()


def test_from_another_thread_it_runs_there():
    seen: list[threading.Thread] = []
    thread = threading.Thread(target=lambda: seen.append(aside(threading.current_thread)))
    thread.start()
    thread.join(10)
    assert seen == [thread]


def test_what_it_raises_is_raised():
    error = Unreachable("nobody")

    def fail() -> None:
        raise error

    with pytest.raises(Unreachable) as caught:
        aside(fail)
    assert caught.value is error


def test_ctrl_c_ends_the_waiting_at_once_and_lets_the_action_end():
    go_on, ended = threading.Event(), threading.Event()

    def act() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        go_on.wait(20)
        ended.set()

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        aside(act)
    assert time.monotonic() - begun < 5
    go_on.set()
    assert ended.wait(10)


def test_a_thread_that_is_done_makes_the_next_call_too():
    assert aside(threading.current_thread) is aside(threading.current_thread)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_begins_a_thread_of_its_own():
    aside(threading.current_thread)
    child = os.fork()
    if not child:
        signal.alarm(30)
        os._exit(aside(lambda: 7))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
