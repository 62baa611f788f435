"""The line on which a worker and the scheduler talk: a stream, or calls with a scheduler of the release before."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from grpc import aio

from dpu_api.v1.dispatch_pb2 import AttendRequest, AttendResponse, WorkResponse
from dpud.worker.peers import let_go

if TYPE_CHECKING:
    from collections.abc import Callable

    from dpu_api.v1.dispatch_pb2 import WorkRequest
    from dpu_api.v1.dispatch_pb2_grpc import DispatchServiceAsyncStub

#: A call, and the one that makes the scheduler answer it.
CALLS = 2
#: A scheduler that answers calls at once, and nothing, is not asked faster than this.
PAUSE_S = 0.05


class Line(Protocol):
    """One line; it is used until it breaks."""

    #: Whether the scheduler keeps in mind what was said: leases that are held, room, and the tasks of a plan.
    is_attentive: bool

    async def say(self, request: WorkRequest) -> None:
        """Say something. What breaks the line is for `hear` to tell."""
        ...

    async def hear(self) -> WorkResponse | None:
        """Return what the scheduler says next; None where it has said its last. Raises AioRpcError."""
        ...

    async def finish(self) -> None:
        """Say that this was the last word."""
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...


class Stream:
    """An Attend stream."""

    is_attentive = True

    def __init__(self, stub: DispatchServiceAsyncStub) -> None:
        self._call: Any = stub.Attend()
        self._heard = 0

    async def say(self, request: WorkRequest) -> None:
        """Write a message."""
        await self._call.write(AttendRequest(work=request, heard=self._heard))

    async def hear(self) -> WorkResponse | None:
        """Read a message."""
        message = await self._call.read()
        if not isinstance(message, AttendResponse):
            return None
        self._heard = message.number
        return message.answer

    async def finish(self) -> None:
        """Write no more."""
        await self._call.done_writing()

    async def close(self) -> None:
        """End the stream."""
        await let_go(self._call)


class Calls:
    """Work calls: `again` is called when there is none any more for the scheduler to answer."""

    is_attentive = False

    def __init__(self, stub: DispatchServiceAsyncStub, again: Callable[[], None]) -> None:
        self._stub = stub
        self._again = again
        self._open: set[asyncio.Task[None]] = set()
        self._answers: asyncio.Queue[WorkResponse | aio.AioRpcError | None] = asyncio.Queue()

    async def say(self, request: WorkRequest) -> None:
        """Make a call; a newer one makes the older one come back."""
        while len(self._open) >= CALLS:
            await asyncio.wait(self._open, return_when=asyncio.FIRST_COMPLETED)
        self._open.add(asyncio.create_task(self._make(request)))

    async def _make(self, request: WorkRequest) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            answer: WorkResponse | aio.AioRpcError = await self._stub.Work(request)
        except aio.AioRpcError as error:
            answer = error
        self._answers.put_nowait(answer)
        self._open -= {asyncio.current_task()}
        if not self._open:
            if answer == WorkResponse() and loop.time() - begun < PAUSE_S:
                await asyncio.sleep(PAUSE_S)
            self._again()

    async def hear(self) -> WorkResponse | None:
        """Return the answer to a call."""
        answer = await self._answers.get()
        if isinstance(answer, aio.AioRpcError):
            raise answer
        return answer

    async def finish(self) -> None:
        """Wait for no answer."""
        self._answers.put_nowait(None)

    async def close(self) -> None:
        """Give up the calls that are open."""
        for call in self._open:
            call.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
