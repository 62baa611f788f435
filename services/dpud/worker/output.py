"""What a task prints, inside its process: sys.stdout, sys.stderr, logging and warnings become lines on the channel."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import struct
import sys
import termios
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

from dpud.worker.lines import ESCAPE, Cutter, Level, Lines, Stream, escaped, now_us

if TYPE_CHECKING:
    from dpud.worker.channel import Channel

#: A chunk of lines travels when it is this old or this large.
CHUNK_S = 0.05
CHUNK_BYTES = 64 * 1024
#: So many lines in CHUNK_S travel alone and at once: they are safe with the agent when the process crashes.
AT_ONCE = 64
_COUNT = struct.Struct("i")
_STANDARD = (Stream.STDOUT, Stream.STDERR)


class Outlet:
    """Gathers the lines of the running task and sends them in chunks, in order."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lines = Lines()
        # Taken again by a signal handler that logs while the same thread logs.
        self._lock = threading.RLock()
        self._waiting = threading.Event()
        self._window_ends = 0
        self._credit = 0
        self.forked = False
        os.register_at_fork(after_in_child=self._after_fork)
        self.sender = threading.Thread(target=self._send_in_time, name="dpu-output", daemon=True)
        self.sender.start()

    def line(self, text: str, level: Level, stream: Stream) -> None:
        """Take one line."""
        if self.forked:
            os.write(stream.value if stream is not Stream.LOGGING else 2, text.encode() + b"\n")
            return
        with self._lock:
            moment = now_us()
            self._lines.add(text, level, stream, moment)
            if self._may_travel(moment) or self._lines.size >= CHUNK_BYTES:
                self.flush()
            elif not self._waiting.is_set():
                self._waiting.set()

    def _may_travel(self, moment: int) -> bool:
        """Return whether a line may still travel alone in this stretch of time; a flood is gathered."""
        # A clock that is set back makes lines gather for longer, and the sender's thread sends them all the same.
        if moment > self._window_ends:
            self._window_ends, self._credit = moment + int(CHUNK_S * 1e6), AT_ONCE
        self._credit -= 1
        return self._credit >= 0

    def flush(self) -> None:
        """Send what was gathered."""
        with self._lock:
            if self._lines and not self.forked:
                # Under the lock, so that chunks cannot overtake each other.
                self._channel.send_lines(self._lines.to_bytes())
                self._lines = Lines()

    def _send_in_time(self) -> None:
        while True:
            self._waiting.wait()
            time.sleep(CHUNK_S)
            with self._lock:
                # Woken once for a flood, not for each of its lines: that would cost more than the lines.
                if not self._lines:
                    self._waiting.clear()
                self.flush()

    def _after_fork(self) -> None:
        """In a process that a recipe forked: the channel is its parent's, so its lines take the pipes."""
        self.forked = True
        self._lock = threading.RLock()
        self._lines = Lines()
        self._channel.close()


class _Printed(io.RawIOBase):
    """A task's sys.stdout or sys.stderr."""

    def __init__(self, outlet: Outlet, stream: Stream) -> None:
        self._outlet = outlet
        self._stream = stream
        self._cutter = Cutter()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._stream)

    def write(self, data: Any) -> int:
        view = bytes(data)
        for line in self._cutter.feed(view):
            self._outlet.line(escaped(line), Level.INFO, self._stream)
        return len(view)

    def finish(self) -> None:
        """Send what came after the last newline."""
        for line in self._cutter.rest():
            self._outlet.line(escaped(line), Level.INFO, self._stream)


class _Logged(logging.Handler):
    """Python's logging, a line a line of the message and its traceback."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet

    def renew(self) -> None:
        """Be as new: a task may have changed it."""
        self.level, self.formatter, self.filters = logging.NOTSET, None, []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as error:  # noqa: BLE001 (a bad format of a recipe must not end its task)
            text = f"a log message could not be formatted: {error}: {record.msg!r} {record.args!r}"
        for line in text.split("\n"):
            self._outlet.line(escaped(line.encode("utf-8", ESCAPE)), _level(record.levelno), Stream.LOGGING)


def _level(number: int) -> Level:
    if number >= logging.ERROR:
        return Level.ERROR
    if number >= logging.WARNING:
        return Level.WARNING
    return Level.INFO if number >= logging.INFO else Level.DEBUG


def _show_warning(message: Warning | str, category: type[Warning], *_where: object) -> None:
    logging.getLogger("py.warnings").warning("%s: %s", category.__name__, message)


def has_printed() -> bool:
    """Return whether something is in the pipes that take what C code and forked processes print."""
    return any(map(_in_pipe, (1, 2)))


def _in_pipe(number: int) -> int:
    """Return how many bytes wait in a pipe; 0 where it is none any more."""
    try:
        count: int = _COUNT.unpack(fcntl.ioctl(number, termios.FIONREAD, bytes(_COUNT.size)))[0]
    except OSError:
        return 0
    return count


class Captured:
    """Sends everything that is printed, logged or warned about in its block to `outlet`, one block after the other."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._logged = _Logged(outlet)

    def __enter__(self) -> None:
        root = logging.getLogger()
        self._before = sys.stdout, sys.stderr, warnings.showwarning, root.handlers
        self._printed = [(_wrapped(raw), raw) for raw in (_Printed(self._outlet, each) for each in _STANDARD)]
        (sys.stdout, _), (sys.stderr, _) = self._printed
        warnings.showwarning = _show_warning  # type: ignore[assignment]  # the names of its arguments are not ours to use
        self._logged.renew()
        root.handlers = [self._logged]
        # Setting it empties every logger's memory of what it may say: it is left as it is between two blocks.
        if root.level != logging.INFO:
            root.setLevel(logging.INFO)

    def __exit__(self, *_error: object) -> None:
        for wrapper, raw in self._printed:
            if not wrapper.closed:
                wrapper.flush()
                # Else the wrapper's end would close the raw stream in the middle of the next task.
                wrapper.detach()
            raw.finish()
        sys.stdout, sys.stderr, warnings.showwarning, logging.getLogger().handlers = self._before
        self._outlet.flush()


def _wrapped(raw: _Printed) -> io.TextIOWrapper:
    return io.TextIOWrapper(raw, "utf-8", ESCAPE, line_buffering=True)  # type: ignore[arg-type]  # a raw stream will do
