"""Calls in a visitor's name, and the streams that are made of their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from starlette.responses import Response, StreamingResponse

from dpu.errors import NotLoggedIn, Unreachable
from dpu.status import from_rpc
from dpu_api.v1 import scheduler_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dpud.web.visitors import Services

DEADLINE_S = 20.0
#: How soon a browser asks again for a stream that broke off.
RETRY = "retry: 2000\n\n"
#: Has a browser load its page anew.
RELOAD = "event: reload\ndata:\n\n"


async def answered(call: Any) -> Any:
    """Return the answer of a call. Raises what it meant, as a DpuError."""
    try:
        return await call
    except grpc.RpcError as error:
        raise from_rpc(error, "the DPU") from error


def about(services: Services) -> Any:
    """Return a call for what the DPU says of itself, and of whoever asks."""
    return services.scheduler.GetDpu(pb.GetDpuRequest(), timeout=DEADLINE_S)


def found(services: Services, number: int) -> Any:
    """Return a call for a job. The log of one that is not there, or another project's, would look empty."""
    return services.scheduler.GetJob(pb.GetJobRequest(job_id=number), timeout=DEADLINE_S)


async def again(call: Any) -> AsyncIterator[str] | None:
    """Return None once a call is answered, else what makes a browser ask again. Raises DpuError for what stays so.

    A browser never asks again for a stream that was refused by a status, or that led to another page.
    """
    try:
        await answered(call)
    except Unreachable:
        return _said(RETRY)
    except NotLoggedIn:
        return _said(RELOAD)
    return None


async def _said(text: str) -> AsyncIterator[str]:
    yield text


def stream(events: AsyncIterator[str]) -> Response:
    """Return server-sent events."""
    return StreamingResponse(events, media_type="text/event-stream")
