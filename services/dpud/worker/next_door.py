"""Task processes in a container of their own, as the agent reaches it: by the socket of its nursery."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from dpud.worker.nursery import LARGEST, SOCKET
from dpud.worker.quarters import CACHES, PROCESSES, Belongings, Ends

if TYPE_CHECKING:
    from pathlib import Path

#: How long a container that starts again is waited for.
PATIENCE_S = 60.0
PAUSE_S = 0.05
#: How long a look at a process's memory may take: soon there is another.
LOOK_S = 1.0


class NextDoor:
    """The runner container that shares `folder` with this one."""

    def __init__(self, folder: Path, patience_s: float = PATIENCE_S) -> None:
        self.processes = folder / PROCESSES
        self.caches = folder / CACHES
        self._socket = folder / SOCKET
        self._patience_s = patience_s

    async def start(self, folder: Path, ends: Ends) -> Guest:
        """Start a guard there; once more where the container ends meanwhile, and so all that it began."""
        try:
            return await self._start(folder, ends)
        except ConnectionError:
            return await self._start(folder, ends)

    async def _start(self, folder: Path, ends: Ends) -> Guest:
        connection = await self._request({"do": "start", "folder": str(folder)}, ends)
        try:
            async with asyncio.timeout(self._patience_s):
                _check(await _heard(connection))
        except BaseException:
            connection.close()
            raise
        return Guest(self, connection)

    async def furnish(self, belongings: Belongings) -> None:
        """Make what is a process's own, owned by who will use it."""
        await self.ask({"do": "furnish", "home": str(belongings.home), "caches": str(belongings.caches)})

    async def move_in(self, user: str) -> None:  # noqa: ARG002 (whoever it is)
        """Have everything there killed and removed, and return when its nursery has begun anew."""
        connection = await self._request({"do": "move_in"})
        with connection:
            await _heard(connection)

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to one request. Raises OSError."""
        with await self._request(request) as connection:
            return _check(await _heard(connection))

    async def _request(self, request: dict[str, Any], ends: Ends | None = None) -> socket.socket:
        """Send a request, and with it descriptors; return the connection. Raises OSError where nobody is there."""
        connection = await self._connected()
        try:
            socket.send_fds(connection, [json.dumps(request).encode()], list(astuple(ends)) if ends else [])
        except OSError:
            connection.close()
            raise
        return connection

    async def _connected(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_s
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            connection.setblocking(False)
            try:
                await loop.sock_connect(connection, str(self._socket))
            except (FileNotFoundError, ConnectionError):
                connection.close()
                if loop.time() > deadline:
                    raise
                await asyncio.sleep(PAUSE_S)
            else:
                return connection


class Guest:
    """A guard in the runner container; its connection lasts as long as it does."""

    def __init__(self, house: NextDoor, connection: socket.socket) -> None:
        self._house = house
        self._connection = connection

    async def ended(self) -> None:
        """Return when it is gone, by the nursery's word or together with it."""
        await _heard(self._connection)
        self._connection.close()

    def kill(self) -> None:
        """Have it killed."""
        self._connection.send(b"kill")

    async def bury(self, pid: int) -> None:
        """Do nothing: its nursery has."""

    async def memory_mib(self, pid: int) -> float:
        """Return the memory of a process and its descendants; 0 where nobody can tell any more."""
        return await self._memory(pid, family=True)

    async def resident_mib(self, pid: int) -> float:
        """Return the memory of one process; 0 where nobody can tell any more."""
        return await self._memory(pid, family=False)

    async def _memory(self, pid: int, *, family: bool) -> float:
        with suppress(OSError, KeyError, TimeoutError):
            async with asyncio.timeout(LOOK_S):
                return float((await self._house.ask({"do": "memory", "pid": pid, "family": family}))["mib"])
        return 0.0


async def _heard(connection: socket.socket) -> dict[str, Any]:
    """Return the next message; none where the nursery is gone."""
    try:
        data = await asyncio.get_running_loop().sock_recv(connection, LARGEST)
    except ConnectionError:
        data = b""
    return dict(json.loads(data)) if data else {}


def _check(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer. Raises the OSError that it tells of."""
    if "error" in answer:
        raise OSError(answer["errno"], answer["error"])
    if not answer:
        raise ConnectionResetError("the runner's container has ended")
    return answer
