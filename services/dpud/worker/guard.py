"""The parent of one task process, and its undertaker: `python -m dpud.worker.guard LIFELINE CHANNEL TICKETS FOLDER`.

It adopts every descendant of the task, so that none outlives it, whatever session it hid in. Over the lifeline (a
socket) it says `pid N` first and `exit STATUS` last, when the process and all its descendants are gone and its folder
is removed. The agent says `stop SECONDS`: SIGTERM to the task's process group, SIGKILL to all when the time is up.
When the lifeline breaks, because the agent let go or died, everything is killed at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

from dpud.worker import linux
from dpud.worker.folders import remove

FOREVER = float("inf")
#: Status of a process that was never seen to end.
UNKNOWN = -1


class Guard:
    """Watches one task process until nothing of it is left."""

    def __init__(self, child: int, lifeline: socket.socket) -> None:
        self._child = child
        self._lifeline = lifeline
        self._status: int | None = None
        self._deadline = FOREVER
        self._asked = b""

    def watch(self) -> int:
        """Return the process's wait status, when it and its descendants are gone."""
        ended, waker = socket.socketpair()
        waker.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        while not self._reap() and time.monotonic() < self._deadline:
            ready, _, _ = select.select([self._lifeline, ended], [], [], self._patience())
            if ended in ready:
                ended.recv(4096)
            if self._lifeline in ready:
                self._listen()
        self._kill_all()
        return UNKNOWN if self._status is None else self._status

    def _patience(self) -> float | None:
        return None if self._deadline == FOREVER else max(0.0, self._deadline - time.monotonic())

    def _reap(self) -> bool:
        """Collect who died. Return whether it is over: nobody is left, or the task ended and nobody asked to wait."""
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                self._note(*found)
            return self._status is not None and self._deadline == FOREVER
        return True

    def _note(self, pid: int, status: int) -> None:
        if pid == self._child:
            self._status = status

    def _listen(self) -> None:
        try:
            data = self._lifeline.recv(4096)
        except ConnectionError:
            data = b""
        if not data:
            self._deadline = 0.0
            return
        self._asked += data
        *commands, self._asked = self._asked.split(b"\n")
        for command in commands:
            self._stop(float(command.removeprefix(b"stop ")))

    def _stop(self, seconds: float) -> None:
        self._deadline = min(self._deadline, time.monotonic() + seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child, signal.SIGTERM)

    def _kill_all(self) -> None:
        """Kill until no child is left: the children of the dead become ours, and die in the next round."""
        while True:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child, signal.SIGKILL)
            for pid in self._children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            try:
                self._note(*os.waitpid(-1, 0))
            except ChildProcessError:
                return

    def _children(self) -> list[int]:
        """Return our children; where the kernel does not tell, the one that we know."""
        try:
            return [int(pid) for pid in Path("/proc/thread-self/children").read_text().split()]
        except OSError:
            return [self._child] if self._status is None else []


def start(channel: int, tickets: int, folder: Path, lifeline: socket.socket) -> int:
    """Fork the task process and return its pid; in the child, run it and never return."""
    guard = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        # What is said over it is the guard's word.
        lifeline.close()
        os.setsid()
        linux.die_with_parent(signal.SIGKILL)
        # So that the process itself can tell, after a task, that one of its descendants lives on.
        linux.adopt_orphans()
        if os.getppid() == guard:
            from dpud.worker import runner

            runner.serve(channel, tickets, folder)
    except BaseException:  # noqa: BLE001 (whatever it was: nothing may run on in this copy of the guard)
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Guard one task process: file descriptors of lifeline, channel and tickets, and its folder, are the arguments."""
    lifeline = socket.socket(fileno=int(sys.argv[1]))
    lifeline.set_inheritable(False)
    channel, tickets, folder = int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    linux.adopt_orphans()
    child = start(channel, tickets, folder, lifeline)
    # Only the agent decides when this process ends. Set after the fork: the task's process keeps the defaults.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for descriptor in (0, 1, 2, channel, tickets):
        os.close(descriptor)
    _say(lifeline, f"pid {child}")
    status = Guard(child, lifeline).watch()
    remove(folder)
    _say(lifeline, f"exit {status}")


def _say(lifeline: socket.socket, line: str) -> None:
    with contextlib.suppress(OSError):
        lifeline.sendall(f"{line}\n".encode())


if __name__ == "__main__":
    main()
