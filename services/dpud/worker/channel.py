"""The one channel between an agent and a task's process: JSON messages, each behind its length, on a socket pair."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

HEADER = struct.Struct("!I")
#: A larger message is a fault of the other side.
LARGEST = 16 * 1024 * 1024


class BrokenChannel(Exception):
    """The other side does not speak as it should."""


def pack(message: dict[str, Any]) -> bytes:
    """Return a message as it travels."""
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > LARGEST:
        raise BrokenChannel(f"a message of {len(body)} bytes is too large for the channel (at most {LARGEST})")
    return HEADER.pack(len(body)) + body


def unpack(body: bytes) -> dict[str, Any]:
    """Return the message in `body`. Raises BrokenChannel."""
    try:
        message = json.loads(body)
    except ValueError as error:
        raise BrokenChannel(f"a message is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise BrokenChannel(f"a message is a {type(message).__name__}, not an object")
    return message


def body_size(header: bytes) -> int:
    """Return the length that a header announces. Raises BrokenChannel."""
    size: int = HEADER.unpack(header)[0]
    if size > LARGEST:
        raise BrokenChannel(f"a message of {size} bytes was announced (at most {LARGEST})")
    return size


async def receive(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """Return the next message, for the agent; None when the other side is gone. Raises BrokenChannel."""
    try:
        size = body_size(await reader.readexactly(HEADER.size))
        return unpack(await reader.readexactly(size))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


class Channel:
    """The task's end: it blocks, and may be used by several threads."""

    def __init__(self, ours: socket.socket) -> None:
        self._socket = ours
        self._sending = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Send one message; waits while the agent does not read."""
        data = pack(message)
        with self._sending:
            self._socket.sendall(data)

    def receive(self) -> dict[str, Any] | None:
        """Return the next message; None when the agent is gone."""
        header = self._exactly(HEADER.size)
        body = self._exactly(body_size(header)) if header else None
        return unpack(body) if body is not None else None

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
