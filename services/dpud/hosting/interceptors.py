"""What happens around every call: who calls, may they, what did the error mean, how long did it take."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from grpc import aio
from grpc_status import rpc_status

from dpu import tracing
from dpu.errors import DpuError, InternalError
from dpu.status import to_status
from dpud.hosting import caller, metrics
from dpud.hosting.tokens import identify

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from dpud.hosting.tokens import Tokens

log = structlog.get_logger(__name__)

#: How a call ended whose caller went away.
_LEFT = "CANCELLED"


class Activity:
    """When somebody last called: an embedded DPU that nobody wants ends."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def note(self) -> None:
        """Somebody wants something now."""
        self.last = time.monotonic()


class CallInterceptor(aio.ServerInterceptor):
    """Authenticates, authorises, times, and turns errors into statuses."""

    def __init__(self, tokens: Tokens, activity: Activity | None = None) -> None:
        self._tokens = tokens
        self._activity = activity or Activity()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of one call."""
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or method.startswith(caller.OPEN_PREFIXES):
            return handler
        meter = metrics.meter(method, asks_often=handler.request_streaming, answers_often=handler.response_streaming)
        guard = _Guard(meter, handler_call_details.invocation_metadata, method, self)
        wrapped: Callable[..., Any]
        if handler.response_streaming:
            wrapped = guard.streaming(handler.stream_stream or handler.unary_stream)
        else:
            wrapped = guard.unary(handler.stream_unary or handler.unary_unary)
        return _make(handler)(wrapped, handler.request_deserializer, handler.response_serializer)

    async def admit(self, method: str, metadata: Any) -> None:
        """Make whoever sent `metadata` the current caller of `method`. Raises NotLoggedIn or NotAllowed."""
        who = await identify(self._tokens, metadata)
        caller.allow(who, method)
        caller.enter(who)
        if caller.Role.USER in who.roles:
            self._activity.note()


def _make(handler: Any) -> Callable[..., Any]:
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return grpc.unary_unary_rpc_method_handler
        case False, True:
            return grpc.unary_stream_rpc_method_handler
        case True, False:
            return grpc.stream_unary_rpc_method_handler
        case _:
            return grpc.stream_stream_rpc_method_handler


class _Guard:
    """One call: entered before the handler, left after it."""

    def __init__(self, meter: metrics.Meter, metadata: Any, method: str, owner: CallInterceptor) -> None:
        self._meter = meter
        self._method = method
        self._metadata = metadata or ()
        self._owner = owner

    async def _enter(self) -> None:
        await self._owner.admit(self._method, self._metadata)

    def unary(self, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def handle(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:
            begun, code = self._meter.begin(), _LEFT
            try:
                await self._enter()
                with tracing.serving(self._method, self._metadata):
                    answer = await behaviour(request, context)
                code = "OK"
            except Exception as error:  # noqa: BLE001 (every fault becomes a status)
                status = self._status(error)
                code = status.code.name
                await context.abort(status.code, status.details, status.trailing_metadata)
            else:
                return answer
            finally:
                self._meter.end(code, begun)

        return handle

    def streaming(self, behaviour: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., AsyncIterator[Any]]:
        async def handle(request: Any, context: aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            begun, code = self._meter.begin(), _LEFT
            try:
                await self._enter()
                # Closed here, not when the garbage is collected: a caller who left holds nothing.
                with tracing.serving(self._method, self._metadata):
                    async with aclosing(behaviour(request, context)) as answers:
                        async for answer in answers:
                            yield answer
                code = "OK"
            except Exception as error:  # noqa: BLE001 (every fault becomes a status)
                status = self._status(error)
                code = status.code.name
                await context.abort(status.code, status.details, status.trailing_metadata)
            finally:
                self._meter.end(code, begun)

        return handle

    def _status(self, error: Exception) -> grpc.Status:
        """Return what the caller is told of an error. Raises it where it is gRPC's own word that all was told."""
        if isinstance(error, aio.AbortError):
            raise error
        if not isinstance(error, DpuError):
            log.error("call failed", method=self._method, exc_info=error)
            error = InternalError(f"{type(error).__name__}: {error}")
        return rpc_status.to_status(to_status(error))
