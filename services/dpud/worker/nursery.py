"""The process of a runner container: starts guards, and so task processes, for the agent in the container next door.

    python -m dpud.worker.nursery FOLDER

Agent and runner are two users that share FOLDER. In it is a socket, on which one request comes a connection, a JSON
message each: `start` (with the descriptors of a guard; the connection lasts as long as that guard), `furnish`,
`memory`, `move_in`. Tasks cannot open sockets, so nobody but an agent asks. No secret and no address is known here.

It serves one user. Before the next one it kills everything in the container and starts itself anew, with empty folders.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from dpud.worker import linux, sandbox
from dpud.worker.families import Families
from dpud.worker.folders import remove
from dpud.worker.quarters import CACHES, PROCESSES, Ends, bury, spawn

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

    Message = Mapping[str, Any]

SOCKET = "runner"
#: No message is longer.
LARGEST = 64 * 1024
DESCRIPTORS = 5


class Nursery:
    """Answers agents: one thread a connection."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guards: set[int] = set()
        self._families = Families()
        self._changing = threading.Lock()

    def listen(self) -> socket.socket:
        """Clear what was there before, and return the socket that agents find."""
        for name in (PROCESSES, CACHES):
            remove(self._folder / name)
            # The agent, of the same group, reads what tasks offer.
            (self._folder / name).mkdir(mode=0o750, exist_ok=True)
        place = self._folder / SOCKET
        place.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listening.bind(str(place))
        place.chmod(0o660)
        listening.listen()
        return listening

    def serve(self, listening: socket.socket) -> None:
        """Answer until this process is ended."""
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError, BrokenPipeError):
            data, descriptors, _, _ = socket.recv_fds(connection, LARGEST, DESCRIPTORS)
            if data:
                self._do(json.loads(data), descriptors, connection)

    def _do(self, request: Message, descriptors: list[int], connection: socket.socket) -> None:
        try:
            match request["do"]:
                case "start":
                    self._start(Path(request["folder"]), descriptors, connection)
                case "furnish":
                    self._furnish(Path(request["home"]), Path(request["caches"]))
                    _say(connection, {"done": True})
                case "memory":
                    _say(connection, {"mib": self._memory_mib(request["pid"], family=request["family"])})
                case "move_in":
                    self._begin_anew()
        except OSError as error:
            _say(connection, {"errno": error.errno, "error": str(error)})

    def _memory_mib(self, pid: int, *, family: bool) -> float:
        return sandbox.memory_mib(pid, self._families) if family else sandbox.resident_mib(pid)

    def _start(self, folder: Path, descriptors: list[int], connection: socket.socket) -> None:
        try:
            with self._changing:
                guard = spawn(self._inside(folder), Ends(*descriptors))
                self._guards.add(guard.pid)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        _say(connection, {"done": True})
        threading.Thread(target=_heed, args=(connection.dup(), guard), daemon=True).start()
        guard.wait()
        with self._changing:
            self._guards.discard(guard.pid)
            if folder.exists():
                self._sweep()
                bury(0, folder)
        _say(connection, {"ended": True})

    def _sweep(self) -> None:
        """Kill what a guard that was killed has left: whatever is ours now, and is no guard."""
        # The children of each that dies become ours in turn.
        while left := [child for child in psutil.Process().children() if child.pid not in self._guards]:
            for child in left:
                with contextlib.suppress(psutil.Error):
                    child.kill()
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child.pid, 0)

    def _furnish(self, home: Path, caches: Path) -> None:
        sandbox.make_caches(self._inside(caches), self._folder / CACHES)
        sandbox.make_scratch(self._inside(home))

    def _inside(self, path: Path) -> Path:
        if self._folder not in path.parents or ".." in path.parts:
            raise PermissionError(f"{path} is not in {self._folder}")
        return path

    def _begin_anew(self) -> None:
        """Kill all that runs here, and replace this process by a new one, which clears the folders."""
        try:
            self._changing.acquire()
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    process.kill()
            os.execv(sys.executable, [sys.executable, "-m", "dpud.worker.nursery", str(self._folder)])  # noqa: S606 (itself)
        finally:
            # The container ends instead and is started anew: whatever went wrong, nobody meets another's leavings.
            os._exit(1)


def _say(connection: socket.socket, message: Message) -> None:
    with contextlib.suppress(OSError):
        connection.send(json.dumps(message).encode())


def _heed(connection: socket.socket, guard: subprocess.Popen[bytes]) -> None:
    """Kill the guard when its agent says so. That the agent is gone, the guard knows by its lifeline."""
    with connection, contextlib.suppress(OSError):
        if connection.recv(LARGEST):
            guard.kill()


def main() -> None:
    """Serve agents until SIGTERM."""
    # As process 1 nothing would end this one otherwise.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    os.umask(0o027)
    linux.adopt_orphans()
    nursery = Nursery(Path(sys.argv[1]))
    nursery.serve(nursery.listen())


if __name__ == "__main__":
    main()
