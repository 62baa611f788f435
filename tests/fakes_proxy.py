"""A network that fails when it is told to: passes bytes on between Unix sockets, cuts connections, swallows bytes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class FaultProxy:
    """Stands at `address` before a service's socket."""

    def __init__(self, here: Path, there: Path) -> None:
        self.address = f"unix:{here}"
        self.connections = 0
        self._here = here
        self._there = there
        self._open = asyncio.Event()
        self._open.set()
        self._refusing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Break every connection and refuse new ones."""
        self._refusing = True
        for writer in self._writers:
            writer.transport.abort()

    def stall(self) -> None:
        """Let nothing pass, in either direction, and tell nobody."""
        self._open.clear()

    def heal(self) -> None:
        """Pass everything on again."""
        self._refusing = False
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refusing:
            writer.transport.abort()
            return
        try:
            beyond = await asyncio.open_unix_connection(self._there)
        except OSError:
            writer.transport.abort()
            return
        for pair in ((reader, beyond[1]), (beyond[0], writer)):
            task = asyncio.create_task(self._pump(*pair))
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while data := await reader.read(65_536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


@asynccontextmanager
async def proxied(here: Path, there: Path) -> AsyncIterator[FaultProxy]:
    """Run a proxy at the socket `here` before the one at `there`."""
    proxy = FaultProxy(here, there)
    server = await asyncio.start_unix_server(proxy._serve, here)
    try:
        yield proxy
    finally:
        proxy.cut()
        proxy.heal()
        server.close()
        for pump in list(proxy._pumps):
            pump.cancel()
        await asyncio.gather(*proxy._pumps, return_exceptions=True)
