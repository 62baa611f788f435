"""Calls from one service to another in the same process, without a wire in between."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, cast

from dpu.errors import Unreachable
from dpud.hosting.caller import allow, enter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from grpc import RpcMethodHandler, aio

    from dpud.hosting.caller import Caller


class Loopback:
    """What a server would offer of some services, to the one caller `who`: permissions and errors are the same."""

    def __init__(self, services: Sequence[tuple[str, Callable[[aio.Server], None]]], who: Caller) -> None:
        self._who = who
        self._handlers: dict[str, RpcMethodHandler[Any, Any]] = {}
        for _, add in services:
            add(cast("aio.Server", self))

    def add_generic_rpc_handlers(self, _handlers: object) -> None:
        """Take no notice: what is registered is enough."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, RpcMethodHandler[Any, Any]]) -> None:
        """Take the methods of a service, as its generated code gives them."""
        self._handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    def unary(self, method: str) -> Callable[..., Awaitable[Any]]:
        """Return a method, '/package.Service/Method', as a stub has it. It raises DpuError."""
        behaviour = cast("Any", self._handlers[method]).unary_unary

        async def call(request: object, *, timeout: float) -> Any:  # noqa: ASYNC109 (as stubs have it)
            allow(self._who, method)
            context = copy_context()
            context.run(enter, self._who)
            handling = asyncio.get_running_loop().create_task(behaviour(request, None), context=context)
            try:
                async with asyncio.timeout(timeout):
                    return await handling
            except TimeoutError as error:
                raise Unreachable(f"{method.rpartition('/')[2]} was not answered within {timeout:g} s") from error

        return call
