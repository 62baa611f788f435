"""Lines that a task printed: cut out of bytes, escaped so that they can travel, gathered by columns."""

from __future__ import annotations

import codecs
import struct
import time
from array import array
from dataclasses import dataclass, field
from enum import IntEnum

_COUNT = struct.Struct("=I")
#: A longer line goes on in the next one.
LONGEST = 1024 * 1024


class Level(IntEnum):
    """How much a line matters; the numbers are LogLevel's."""

    DEBUG = 1
    INFO = 2
    WARNING = 3
    ERROR = 4


class Stream(IntEnum):
    """Where a line came from; the numbers are LogStream's."""

    STDOUT = 1
    STDERR = 2
    LOGGING = 3
    WORKER = 4


def now_us() -> int:
    """Return the microseconds since 1970."""
    return time.time_ns() // 1000


def escaped(line: bytes) -> str:
    r"""Return a line as text: what is not UTF-8 as \xNN, NUL as \x00; nothing is lost."""
    return line.removesuffix(b"\r").decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def _escape_surrogates(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    refused = error.object[error.start : error.end]
    return "".join(map(_escape_character, refused)), error.end


def _escape_character(character: str) -> str:
    number = ord(character)
    # U+DC80 ... U+DCFF are bytes that `surrogateescape` let in, of a file name for instance.
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\u{number:04x}"  # noqa: PLR2004 (named above)


#: Error handler of a task's sys.stdout: text that UTF-8 cannot hold is escaped, where Python would raise.
ESCAPE = "dpu_escape"
codecs.register_error(ESCAPE, _escape_surrogates)


class Cutter:
    """Cuts a stream of bytes into lines."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes, without their newlines."""
        if not self._rest and len(data) <= LONGEST and data.find(b"\n") == len(data) - 1 >= 0:
            # What `print` gives, nearly always.
            return [data[:-1]]
        self._rest += data
        if b"\n" in data:
            *lines, rest = bytes(self._rest).split(b"\n")
            self._rest = bytearray(rest)
        else:
            lines = []
        while len(self._rest) > LONGEST:
            lines.append(bytes(self._rest[:LONGEST]))
            del self._rest[:LONGEST]
        return [piece for line in lines for piece in _pieces(line)]

    def rest(self) -> list[bytes]:
        """Return what came after the last newline, as a line of its own; none where nothing did."""
        rest, self._rest = bytes(self._rest), bytearray()
        return [rest] if rest else []


def _fit(text: str) -> list[str]:
    """Return what may travel of something that should be lines."""
    lines = text.split("\n")
    if "\0" in text or "\r" in text:
        return [escaped(line.encode()) for line in lines]
    return lines


def _pieces(line: bytes) -> list[bytes]:
    if len(line) <= LONGEST:
        return [line]
    return [line[start : start + LONGEST] for start in range(0, len(line), LONGEST)]


@dataclass(slots=True)
class Lines:
    """Consecutive lines of one attempt, by columns."""

    time_us: list[int] = field(default_factory=list)
    levels: bytearray = field(default_factory=bytearray)
    streams: bytearray = field(default_factory=bytearray)
    texts: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, text: str, level: Level, stream: Stream, time_us: int) -> None:
        """Put one line at the end."""
        self.time_us.append(time_us)
        self.levels.append(level)
        self.streams.append(stream)
        self.texts.append(text)
        # About what the line costs to keep and to send.
        self.size += len(text) + 16

    def extend(self, others: Lines) -> None:
        """Put the lines of `others` at the end."""
        self.time_us += others.time_us
        self.levels += others.levels
        self.streams += others.streams
        self.texts += others.texts
        self.size += others.size

    def to_bytes(self) -> bytes:
        """Return the lines as they travel on the channel: how many, then column by column; no text has a newline."""
        times = array("q", self.time_us).tobytes()
        texts = "\n".join(self.texts).encode("utf-8", ESCAPE)
        return b"".join((_COUNT.pack(len(self.texts)), times, self.levels, self.streams, texts))

    @classmethod
    def from_bytes(cls, data: bytes) -> Lines:
        """Return the lines that `to_bytes` gave. Raises ValueError where the columns do not agree."""
        count = _COUNT.unpack_from(data)[0] if len(data) >= _COUNT.size else 0
        levels = _COUNT.size + 8 * count
        streams, texts = levels + count, levels + 2 * count
        # The other side may be a broken recipe's process: what it sends is made to fit the wire here.
        lines = cls(
            time_us=array("q", data[_COUNT.size : levels]).tolist(),
            levels=bytearray(data[levels:streams]),
            streams=bytearray(data[streams:texts]),
            texts=_fit(data[texts:].decode("utf-8", "backslashreplace")),
        )
        if not len(lines.time_us) == len(lines.levels) == len(lines.streams) == len(lines.texts) == count:
            raise ValueError(f"log columns differ in length: {len(lines.texts)} texts of {count} lines")
        lines.size = sum(map(len, lines.texts)) + 16 * count
        return lines

    def __len__(self) -> int:
        return len(self.texts)
