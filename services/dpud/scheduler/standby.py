"""What a scheduler answers that does not lead: try again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from dpu.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from grpc import aio


class _Refusing(grpc.GenericRpcHandler):
    """Answers every call of one service with UNAVAILABLE."""

    def __init__(self, service: str) -> None:
        self._prefix = f"/{service}/"
        # On the wire, a stream of messages is any of the four kinds of calls.
        self._handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(_refuse)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return what refuses the call, if it is this service's."""
        return self._handler if handler_call_details.method.startswith(self._prefix) else None


def _refuse(_requests: AsyncIterator[bytes], _context: aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
    raise Unreachable("this scheduler stands by and another one leads: try again there")


def refusing(names: Sequence[str]) -> list[tuple[str, Callable[[aio.Server], None]]]:
    """Return services of these names that refuse every call, for `hosting.server.listening`."""

    def adding(name: str) -> Callable[[aio.Server], None]:
        return lambda server: server.add_generic_rpc_handlers((_Refusing(name),))

    return [(name, adding(name)) for name in names]
