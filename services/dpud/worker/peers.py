"""The services that a worker calls for its tasks: channels by project, and how long it tries."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import structlog
from grpc import aio

from dpu.channel import open_async_channel
from dpu.errors import DpuError, Exhausted, Unreachable
from dpu.status import from_rpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from dpud.hosting.settings import Peer

T = TypeVar("T")
log = structlog.get_logger(__name__)

#: How long a call of a task is tried before its worker gives the task back.
PATIENCE_S = 60.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
#: What gRPC says by itself of a call that ended while a request was written into it, before it knows how it ended.
BROKEN_OFF = (grpc.StatusCode.INTERNAL, "Internal error from Core")


def pauses(first: float = FIRST_PAUSE_S, longest: float = LONGEST_PAUSE_S) -> Iterator[float]:
    """Return how long to wait before each new try: doubled each time, with jitter, so that workers spread."""
    pause = first
    while True:
        yield random.uniform(pause / 2, pause)  # noqa: S311 (jitter)
        pause = min(2 * pause, longest)


class Channels:
    """Channels to one service, one a project, in whose name a task's calls are made."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._channels: dict[str, aio.Channel] = {}

    def of(self, project: str = "") -> aio.Channel:
        """Return the channel for `project`; '' for what concerns no project."""
        if project not in self._channels:
            self._channels[project] = open_async_channel(self._peer.address.text, self._peer.token, project)
        return self._channels[project]

    async def close(self) -> None:
        """Close them all."""
        for channel in self._channels.values():
            await channel.close()


async def answered(call: Awaitable[T], service: str) -> T:
    """Return the answer of a call into which a stream of requests goes. Raises DpuError.

    Where a service goes away while the stream is written, gRPC gives the call up by itself, and what waits for it is
    told that it was cancelled, as if its own task had been: that task would end without a word. Where a service answers
    before it has read all, the answer may be lost; asked again, it comes.
    """
    try:
        return await call
    except aio.AioRpcError as error:
        if (error.code(), error.details()) == BROKEN_OFF:
            raise Unreachable(f"{service} ended a call while it was written into") from error
        raise from_rpc(error, service) from error
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
        raise Unreachable(f"{service} went away during a call") from error


async def let_go(call: Any) -> None:
    """End a stream that was written into, by whichever side it may have ended.

    gRPC keeps a task that passes on what is written, and cancels it with a stream that is open. Of one that has ended
    it would wait for more, until it is found as garbage, which is logged as if something had failed.
    """
    if not call.cancel():
        with suppress(asyncio.InvalidStateError, aio.AioRpcError):
            await call.done_writing()


async def patiently(call: Callable[[], Awaitable[T]], service: str, patience_s: float = PATIENCE_S) -> T:
    """Return what `call` returns; where the service is away or full, try again for a while.

    Raises the DpuError of the last try.
    """
    deadline = time.monotonic() + patience_s
    for pause in pauses():
        try:
            return await call()
        except (aio.AioRpcError, DpuError) as error:
            reason = from_rpc(error, service) if isinstance(error, aio.AioRpcError) else error
            if not isinstance(reason, Unreachable | Exhausted) or time.monotonic() + pause > deadline:
                raise reason from error
            log.warning("call failed, trying again", service=service, reason=reason.message, pause_s=round(pause, 2))
            await asyncio.sleep(pause)
    raise AssertionError("pauses never end")
