"""A network that fails on demand: a proxy in front of a Unix socket or a port."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A Unix socket's path, or host and port.
Place: TypeAlias = "str | tuple[str, int]"


@dataclass
class Proxy:
    """Passes bytes between whoever connects and `target`."""

    target: Place
    listener: socket.socket
    #: Set while bytes pass; cleared, what is sent goes nowhere and nobody is told.
    passing: threading.Event = field(default_factory=threading.Event)
    #: The connection that next sends this is cut when its answer comes: it was done, and nobody heard.
    unheard: bytes = b""
    _pairs: set[tuple[socket.socket, socket.socket]] = field(default_factory=set)
    _down: bool = False

    @property
    def address(self) -> Place:
        """Where it listens."""
        return self.listener.getsockname()

    def serve(self) -> None:
        """Accept until the listener is closed."""
        self.passing.set()
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                if self._down:
                    client.close()
                else:
                    threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        self._down = True
        self.passing.set()
        self._break()

    def mend(self) -> None:
        """Let everything pass again."""
        self._down = False
        self.passing.set()

    def wait_until_empty(self) -> None:
        """Return when the last connection is gone."""
        deadline = time.monotonic() + 5
        while self._pairs:
            assert time.monotonic() < deadline, f"{len(self._pairs)} connections are still there"
            time.sleep(0.005)

    def _break(self) -> None:
        for pair in list(self._pairs):
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _join(self, client: socket.socket) -> None:
        """Carry one connection until both of its ends are done."""
        with client, socket.socket(socket.AF_UNIX if isinstance(self.target, str) else socket.AF_INET) as server:
            try:
                server.connect(self.target)
            except OSError:
                return
            self._pairs.add((client, server))
            deaf = threading.Event()
            back = threading.Thread(target=self._pass, args=(server, client, client, deaf), daemon=True)
            back.start()
            self._pass(client, server, client, deaf)
            back.join()
            self._pairs.discard((client, server))

    def _pass(self, source: socket.socket, sink: socket.socket, client: socket.socket, deaf: threading.Event) -> None:
        try:
            while data := source.recv(65_536):
                self.passing.wait()
                if source is not client and deaf.is_set():
                    return
                if source is client and self.unheard and self.unheard in data:
                    self.unheard = b""
                    deaf.set()
                sink.sendall(data)
        except OSError:
            return
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxied(target: Place, listen: Place = ("127.0.0.1", 0)) -> Iterator[Proxy]:
    """Give a proxy in front of `target` until the block ends."""
    listener = socket.socket(socket.AF_UNIX if isinstance(listen, str) else socket.AF_INET)
    listener.bind(listen)
    listener.listen()
    proxy = Proxy(target, listener)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.cut()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        proxy.wait_until_empty()
