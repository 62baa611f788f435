"""A task process as its agent sees it: started behind a guard, talked to over its channel, stopped for certain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Protocol, cast

from dpud.worker import channel, sandbox, scratch
from dpud.worker.lines import Cutter, Level, Lines, Stream, escaped, now_us
from dpud.worker.quarters import Ends

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from typing import TypeAlias

    from dpud.worker.groups import Group
    from dpud.worker.quarters import Quarters, Started

    Take: TypeAlias = Callable[[Lines], Awaitable[None]]

PIECE = 64 * 1024
#: No pipe holds more: who reads so much has read what was there when it began.
FULL_PIPE = 1024 * 1024
#: Status of a process whose guard did not live to tell.
UNKNOWN = -1
#: Tasks that are shorter are heard together, so long after each other.
UNHEARD_S = 0.02
#: After SIGKILL to everything: a process that is still there hangs in the kernel.
KILLED_WITHIN_S = 30.0


class Desk(Protocol):
    """Who answers a running task."""

    async def answer(self, call: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to one call of the archive: {'result': ...} or {'error': kind, 'message': text}."""
        ...

    async def print(self, lines: Lines) -> None:
        """Take lines of its log; waits while there is no room for them."""
        ...

    def plan(self, tasks: list[dict[str, Any]]) -> None:
        """Take a part of its plan."""
        ...

    async def end(self, end: dict[str, Any]) -> int:
        """Take how it ended; return how many tasks go on after it."""
        ...


class TaskProcess:
    """One process; it runs one task at a time, and may be given several that it runs one after the other."""

    def __init__(self, folder: Path, guard: Started, pipes: list[_Pipe], tickets: channel.Tickets) -> None:
        self.folder = folder
        self.home = folder / scratch.HOME
        self.scratch = self.home / scratch.NAME
        self.tickets = tickets
        #: How many tasks it was given, and how long it has worked.
        self.tasks = 0
        self.busy_s = 0.0
        self.idle_since = time.monotonic()
        self.pid = 0
        #: What it took after its first task, and after how many it was looked at last.
        self.first_mib = 0.0
        self.weighed = 0
        self._guard = guard
        self._pipes = pipes
        self._status = UNKNOWN
        self._desk: Desk | None = None
        self._let_go = False
        self._live = asyncio.Event()
        self._live.set()
        self._born = asyncio.Event()
        #: The control group that it lives in, where it has one of its own.
        self.group: Group | None = None

    @classmethod
    async def start(cls, folder: Path, quarters: Quarters) -> TaskProcess:
        """Start a process in `quarters` whose home is in `folder`, made for it and removed by its guard."""
        ours, theirs = socket.socketpair()
        lifeline, guards = socket.socketpair()
        giving, taking = socket.socketpair()
        outputs = [os.pipe(), os.pipe()]
        with theirs, guards:
            ends = Ends(guards.fileno(), theirs.fileno(), taking.fileno(), outputs[0][1], outputs[1][1])
            try:
                guard = await quarters.start(folder, ends)
            except BaseException:
                for each in (ours, lifeline, giving, taking):
                    each.close()
                for reading, _ in outputs:
                    os.close(reading)
                raise
            finally:
                for _, writing in outputs:
                    os.close(writing)
        pipes = [
            _Pipe(reading, stream) for (reading, _), stream in zip(outputs, (Stream.STDOUT, Stream.STDERR), strict=True)
        ]
        process = cls(folder, guard, pipes, channel.Tickets(giving, taking))
        await process._connect(ours, lifeline)
        return process

    async def _connect(self, ours: socket.socket, lifeline: socket.socket) -> None:
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=channel.PIECE)
        self._receiver = channel.Receiver(reader, cast("asyncio.Transport", self._writer.transport))
        self._heard, self._lifeline = await asyncio.open_connection(sock=lifeline)
        self._pumps = [asyncio.create_task(pipe.pump(self._print, self._live)) for pipe in self._pipes]
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """Hear what the guard says, until it is gone."""
        with contextlib.suppress(ConnectionError):
            while line := await self._heard.readline():
                word, _, number = line.decode().partition(" ")
                if word == "pid":
                    self.pid = int(number)
                    self._born.set()
                elif word == "exit":
                    self._status = int(number)
        # Its last word said, it needs no time to end.
        await self._guard.ended()
        self._born.set()
        if self._status == UNKNOWN:
            await self._guard.bury(self.pid)

    async def join(self, group: Group) -> None:
        """Have it live in a control group, with all that it starts from now on. Raises OSError."""
        self.group = group
        await self._born.wait()
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                group.take(self.pid)

    async def memory_mib(self) -> float:
        """Return what it and its descendants take, MiB; nothing while nobody knows its number, for 0 is everybody's."""
        return await self._guard.memory_mib(self.pid) if self.pid else 0.0

    async def disk_mib(self) -> float:
        """Return what is stored in its folder, MiB."""
        # In a thread: a task may make more files than the loop has time for.
        return await asyncio.to_thread(sandbox.folder_mib, self.folder)

    async def resident_mib(self) -> float:
        """Return what it alone takes, MiB: cheaper to know."""
        return await self._guard.resident_mib(self.pid) if self.pid else 0.0

    async def send(self, order: dict[str, Any]) -> None:
        """Give an order. Where the process is gone, nothing happens here: who waits for an answer will see."""
        with contextlib.suppress(ConnectionError):
            self._writer.write(channel.pack(order))
            await self._writer.drain()

    async def run(self, order: dict[str, Any], desk: Desk) -> bool:
        """Run the tasks of an order and tell `desk` how each ended; return whether they all did.

        False: the process died, or spoke no sense and was killed, while a task ran or before one began.
        """
        numbers = [task["number"] for task in order["tasks"]]
        if len(numbers) > 1:
            self._live.clear()
        begun = time.monotonic()
        self.tasks += len(numbers)
        self._desk = desk
        self._left, self._pace = len(numbers), _Pace(begun)
        try:
            await self.send(order)
            self.tickets.give(numbers)
            is_done = await self._converse(desk)
            if not is_done:
                self.kill()
                await self.gone()
                await self._drain()
            return is_done
        finally:
            self._desk = None
            self.listen()
            self.idle_since = time.monotonic()
            self.busy_s += self.idle_since - begun

    async def _converse(self, desk: Desk) -> bool:
        """Hear what the process says; return whether it has said how its last task ended."""
        try:
            while messages := await self._receiver.receive():
                left = self._left
                for message in messages:
                    await self._hear(message, desk)
                    if not self._left:
                        return True
                if self._left < left and (pause_s := self._pace.pause_s(left - self._left, self._left)):
                    await self._receiver.pause(pause_s)
        except (channel.BrokenChannel, ValueError, TypeError, KeyError) as error:
            broken = Lines()
            broken.add(f"the task's process was killed: {error}", Level.ERROR, Stream.WORKER, now_us())
            await desk.print(broken)
        return False

    async def _hear(self, message: dict[str, Any], desk: Desk) -> None:
        """Do what one message is about."""
        match message:
            case {"lines": bytes(printed)}:
                await desk.print(Lines.from_bytes(printed))
            case {"ask": str(call), "arguments": dict(arguments)}:
                await self.send(await desk.answer(call, arguments))
            case {"tasks": list(tasks)}:
                desk.plan(tasks)
            case {"end": dict(end)}:
                if self._live.is_set() or end["printed"]:
                    await self._drain()
                self._left = await desk.end(end)
            case _:
                raise channel.BrokenChannel("a message is none of lines, ask, tasks, end")

    def listen(self) -> None:
        """Take what comes through the pipes as soon as it comes: all of it is of the one task that runs.

        Between tasks that follow each other without a word, it is taken when one of them ends and has printed.
        """
        self._live.set()

    async def _drain(self) -> None:
        """Have the lines that came through the pipes until now."""
        for pipe in self._pipes:
            await pipe.drain(self._print)

    async def _print(self, lines: Lines) -> None:
        if self._desk is not None:
            await self._desk.print(lines)

    async def stop(self, grace_s: float) -> None:
        """Ask it to end (SIGTERM to its group), kill everything after `grace_s`, return when nothing is left."""
        with contextlib.suppress(ConnectionError):
            self._lifeline.write(f"stop {grace_s}\n".encode())
            await self._lifeline.drain()
        await self.gone(grace_s)

    def kill(self) -> None:
        """Have everything of it killed at once; what its guard says last is still heard."""
        if not self._let_go:
            self._let_go = True
            with contextlib.suppress(OSError):
                self._lifeline.write_eof()

    async def gone(self, grace_s: float = 0.0) -> int:
        """Return its wait status when it, its descendants and its folder are gone, -1 when nobody knows it."""
        try:
            await asyncio.wait_for(asyncio.shield(self._watching), grace_s + KILLED_WITHIN_S)
        except TimeoutError:
            self._guard.kill()
            await self._watching
        return self._status

    async def close(self) -> None:
        """Kill it and let go of everything that belongs to it."""
        self.kill()
        await self.gone()
        if self.group is not None:
            self.group.remove()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for pipe in self._pipes:
            pipe.close()
        self.tickets.close()
        for writer in (self._writer, self._lifeline):
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    @property
    def alive(self) -> bool:
        """Whether it can take an order."""
        return not self._watching.done() and not self._let_go


class _Pace:
    """How fast the tasks of an order follow each other, and how long their process may go unheard meanwhile.

    Being woken for each line and each end of a task that does little costs both sides more than the task.
    """

    def __init__(self, begun: float) -> None:
        self._begun = begun
        self._ended = 0

    def pause_s(self, ended: int, left: int) -> float:
        """Return how long to wait before the next messages are read; 0 where somebody might wait for it."""
        self._ended += ended
        each_s = (time.monotonic() - self._begun) / self._ended
        pause_s = min(UNHEARD_S, each_s * left / 2)
        return pause_s if each_s < UNHEARD_S <= 2 * pause_s else 0.0


class _Pipe:
    """What C code and forked processes print to one of the standard files."""

    def __init__(self, descriptor: int, stream: Stream) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._stream = stream
        self._cutter = Cutter()
        self._reading = asyncio.Lock()

    async def pump(self, take: Take, live: asyncio.Event) -> None:
        """Read until the other end is closed, while it is `live`."""
        while await live.wait() and await self._readable():
            async with self._reading:
                if live.is_set() and await self._read(take) == 0:
                    return

    async def drain(self, take: Take) -> None:
        """Read what has been printed until now, and what came after the last newline."""
        async with self._reading:
            left = FULL_PIPE
            while left > 0 and (count := await self._read(take)):
                left -= count
            await self._pass_on(self._cutter.rest(), take)

    async def _readable(self) -> bool:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[bool] = loop.create_future()
        loop.add_reader(self._descriptor, _settle, ready)
        try:
            return await ready
        finally:
            loop.remove_reader(self._descriptor)

    async def _read(self, take: Take) -> int | None:
        """Read one piece; return its size, 0 at the end, None where there is nothing now."""
        try:
            data = os.read(self._descriptor, PIECE)
        except BlockingIOError:
            return None
        await self._pass_on(self._cutter.feed(data), take)
        return len(data)

    async def _pass_on(self, found: list[bytes], take: Take) -> None:
        if not found:
            return
        lines = Lines()
        moment = now_us()
        for line in found:
            lines.add(escaped(line), Level.INFO, self._stream, moment)
        await take(lines)

    def close(self) -> None:
        os.close(self._descriptor)


def _settle(ready: asyncio.Future[bool]) -> None:
    if not ready.done():
        ready.set_result(True)
