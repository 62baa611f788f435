"""Ships what tasks print to the log service; a line is let go only when it is on disk there."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import structlog
from grpc import aio

from dpu.errors import DpuError, UsageError
from dpu.status import from_rpc
from dpu_api.v1.logs_pb2 import AppendRequest, AppendResponse
from dpu_api.v1.logs_pb2_grpc import LogServiceStub
from dpud.worker import wire
from dpud.worker.leases import key_of
from dpud.worker.lines import Level, Lines, Stream, now_us
from dpud.worker.peers import let_go, pauses

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from dpu_api.v1.job_pb2 import TaskRef
    from dpud.worker.leases import Key
    from dpud.worker.spool import Spool

log = structlog.get_logger(__name__)

#: Batches on the way without an answer.
WINDOW = 256
#: So much of what waits travels in one message.
TOGETHER_BYTES = 512 * 1024
#: A batch waits so long for others.
LINGER_S = 0.015
#: A batch travels when its first line is this old, or when it is this large.
BATCH_S = 0.05
BATCH_BYTES = 64 * 1024


class TaskLog:
    """The log of one attempt: numbers its lines and gathers them in batches."""

    def __init__(self, ref: TaskRef, project: str, spool: Spool, *, user: str = "", label: str = "") -> None:
        self._ref = ref
        self._project, self._user, self._label = project, user, label
        self._spool = spool
        # A batch that waits for room keeps those behind it waiting.
        self._order = asyncio.Lock()
        self._gathered = Lines()
        self.count = 0

    async def print(self, lines: Lines) -> None:
        """Take lines, for a `flush` within BATCH_S; waits while the spool is full."""
        self._gathered.extend(lines)
        if self._gathered.size >= BATCH_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Give what was gathered to the spool."""
        async with self._order:
            if lines := self._gathered:
                self._gathered = Lines()
                batch = wire.batch(self._ref, self.count, lines)
                self.count += len(lines)
                said = AppendRequest(batch=batch, project=self._project, user=self._user, label=self._label)
                await self._spool.put(said)

    async def say(self, text: str, level: Level = Level.INFO) -> None:
        """Take a line of the worker's own."""
        lines = Lines()
        lines.add(text, level, Stream.WORKER, now_us())
        await self.print(lines)


class LogShipper:
    """Sends the spool's batches in order over one stream, again and again until they are acknowledged."""

    def __init__(self, spool: Spool, channel: aio.Channel) -> None:
        self._spool = spool
        self._stub = LogServiceStub(channel)
        # One at a time after a refusal, so that the batch that is refused is known.
        self._window = WINDOW

    async def ship(self) -> None:
        """Send until cancelled."""
        waits = pauses()
        while True:
            # A stream is opened for something: an idle worker holds none.
            self._spool.rewind()
            first = await self._spool.next(1)
            try:
                # Closed here, whatever interrupts: else it is closed some time after, and a loop that ends meanwhile
                # closes it once more.
                async with aclosing(self._answers(first)) as answers:
                    async for answer in answers:
                        self._acknowledged(answer)
                        waits = pauses()
            except (aio.AioRpcError, DpuError) as error:
                reason = from_rpc(error, "the log service") if isinstance(error, aio.AioRpcError) else error
                self._refused(reason)
            await asyncio.sleep(next(waits))

    async def _answers(self, first: AppendRequest) -> AsyncGenerator[AppendResponse, None]:
        """Open a stream, write into it as long as it lasts, and give the answers."""
        call = self._stub.Append()
        # Written by a task of ours: an iterator handed to gRPC would live on after a broken stream, and take batches.
        writing = asyncio.create_task(self._write(call, first))
        try:
            async for answer in call:
                yield answer
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await let_go(call)

    async def _write(self, call: Any, first: AppendRequest) -> None:
        while True:
            # What is there goes together: a message costs more than a line in it. And how a task ended goes first.
            await asyncio.sleep(LINGER_S)
            more = self._spool.more(self._window, TOGETHER_BYTES)
            await call.write(_with(first, more) if more else first)
            first = await self._spool.next(self._window)

    def _refused(self, reason: DpuError) -> None:
        """Decide what a broken stream means for the batches that were on the way."""
        if not isinstance(reason, UsageError):
            log.warning("logs not shipped, trying again", reason=reason.message)
        elif self._window > 1:
            self._window = 1
        else:
            batch = self._spool.drop_oldest().batch
            log.error("log lines refused", reason=reason.message, job=batch.ref.job_id, lines=len(batch.texts))
            self._window = WINDOW

    def _acknowledged(self, answer: AppendResponse) -> None:
        below: dict[Key, int] = {}
        for each in (answer, *answer.more):
            key = key_of(each.ref)
            below[key] = max(each.acknowledged, below.get(key, 0))
        self._spool.acknowledge_all(below)


def _with(first: AppendRequest, more: list[AppendRequest]) -> AppendRequest:
    """Return one message for several batches; those of the spool stay as they are."""
    whole = AppendRequest()
    whole.CopyFrom(first)
    whole.more.extend(more)
    return whole
