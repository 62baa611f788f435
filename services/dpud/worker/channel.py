"""The one channel between an agent and a task's process: messages, each behind its length and kind, on a socket pair.

All are JSON but lines that were printed, of which there are most: those are the bytes of `lines.Lines`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADER = struct.Struct("!IB")
TICKET = struct.Struct("!Q")
#: Kinds of messages.
_JSON, _LINES = range(2)
#: A larger message is a fault of the other side.
LARGEST = 16 * 1024 * 1024
PIECE = 256 * 1024
#: Made once: json.dumps makes another for each message.
_encoded = json.JSONEncoder(separators=(",", ":")).encode


class BrokenChannel(Exception):
    """The other side does not speak as it should."""


def pack(message: dict[str, Any]) -> bytes:
    """Return a message as it travels."""
    return _framed(_JSON, _encoded(message).encode())


def pack_lines(lines: bytes) -> bytes:
    """Return the message {'lines': ...} as it travels."""
    return _framed(_LINES, lines)


def _framed(kind: int, body: bytes) -> bytes:
    if len(body) > LARGEST:
        raise BrokenChannel(f"a message of {len(body)} bytes is too large for the channel (at most {LARGEST})")
    return HEADER.pack(len(body), kind) + body


def unpack(kind: int, body: bytes) -> dict[str, Any]:
    """Return the message in `body`. Raises BrokenChannel."""
    if kind == _LINES:
        return {"lines": body}
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BrokenChannel(f"a message is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise BrokenChannel(f"a message is a {type(message).__name__}, not an object")
    return message


def announced(data: bytes | bytearray, start: int = 0) -> tuple[int, int]:
    """Return size and kind of the message whose header is at `start`. Raises BrokenChannel."""
    size, kind = HEADER.unpack_from(data, start)
    if size > LARGEST:
        raise BrokenChannel(f"a message of {size} bytes was announced (at most {LARGEST})")
    return size, kind


class Receiver:
    """The agent's end, for reading: all that has come at once."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.Transport) -> None:
        self._reader = reader
        self._transport = transport
        self._rest = bytearray()

    async def receive(self) -> list[dict[str, Any]]:
        """Return the next messages; none when the other side is gone. Raises BrokenChannel."""
        while not (messages := self._whole()):
            try:
                data = await self._reader.read(PIECE)
            except ConnectionError:
                return []
            if not data:
                return []
            self._rest += data
        return messages

    async def pause(self, seconds: float) -> None:
        """Leave what comes where it is for a moment: much is read at once then, and the other side goes on."""
        self._transport.pause_reading()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._transport.resume_reading()

    def _whole(self) -> list[dict[str, Any]]:
        """Take the whole messages from what was read."""
        messages, start = [], 0
        while (begin := start + HEADER.size) <= len(self._rest):
            size, kind = announced(self._rest, start)
            end = begin + size
            if end > len(self._rest):
                break
            messages.append(unpack(kind, bytes(self._rest[begin:end])))
            start = end
        del self._rest[:start]
        return messages


class Channel:
    """The task's end: it blocks, and may be used by several threads."""

    def __init__(self, ours: socket.socket) -> None:
        self._socket = ours
        self._sending = threading.Lock()
        # Orders that came while an answer was waited for.
        self._orders: deque[dict[str, Any]] = deque()

    def send(self, message: dict[str, Any]) -> None:
        """Send one message; waits while the agent does not read."""
        self._put(pack(message))

    def send_lines(self, lines: bytes) -> None:
        """Send lines that were printed."""
        self._put(pack_lines(lines))

    def _put(self, data: bytes) -> None:
        with self._sending:
            self._socket.sendall(data)

    def order(self) -> dict[str, Any] | None:
        """Return the next order; None when the agent is gone."""
        return self._orders.popleft() if self._orders else self._receive()

    def answer(self) -> dict[str, Any] | None:
        """Return the answer to what was asked; None when the agent is gone."""
        while (message := self._receive()) is not None and "do" in message:
            self._orders.append(message)
        return message

    def _receive(self) -> dict[str, Any] | None:
        header = self._exactly(HEADER.size)
        if header is None:
            return None
        size, kind = announced(header)
        body = self._exactly(size)
        return None if body is None else unpack(kind, body)

    def _exactly(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            piece = self._socket.recv(min(size - len(data), 1 << 20))
            if not piece:
                return None
            data += piece
        return bytes(data)

    def close(self) -> None:
        """Give it up: what is sent afterwards fails."""
        self._socket.close()


class Tickets:
    """The right to begin: the agent gives a ticket for each order, and can take it back until the task has begun.

    Whoever takes a ticket from the socket first has it: the kernel decides between the two, whatever the task does.
    """

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        self._ours = ours
        self._theirs = theirs

    def give(self, numbers: Iterable[int]) -> None:
        """Let the orders with these numbers be begun."""
        self._ours.sendall(b"".join(map(TICKET.pack, numbers)))

    def take_back(self) -> set[int]:
        """Return the numbers of the orders that were not begun, and now never will be."""
        try:
            data = self._theirs.recv(PIECE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return set()
        return {number for (number,) in TICKET.iter_unpack(data)}

    def close(self) -> None:
        """Give them up."""
        self._ours.close()
        self._theirs.close()


class Turn:
    """The task's end of the tickets."""

    def __init__(self, tickets: socket.socket) -> None:
        self._tickets = tickets
        self._number = -1

    def came(self, number: int) -> bool:
        """Wait; return whether the order with this number may begin, and was not taken back."""
        while self._number < number:
            ticket = self._tickets.recv(TICKET.size, socket.MSG_WAITALL)
            if len(ticket) < TICKET.size:
                return False
            self._number = TICKET.unpack(ticket)[0]
        return self._number == number
