"""The one table between errors and gRPC statuses, and the two ways through it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import aio
from grpc_status import rpc_status

from dpu import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

DOMAIN = "dpu"

#: A class not named here travels as its nearest named parent does, and comes back as itself.
CODES: dict[type[errors.DpuError], grpc.StatusCode] = {
    errors.UsageError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.NotAllowed: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotLoggedIn: grpc.StatusCode.UNAUTHENTICATED,
    errors.Conflict: grpc.StatusCode.ALREADY_EXISTS,
    errors.StaleLease: grpc.StatusCode.ABORTED,
    errors.MissingBlobs: grpc.StatusCode.FAILED_PRECONDITION,
    errors.VersionMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unreachable: grpc.StatusCode.UNAVAILABLE,
    errors.TimedOut: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.InternalError: grpc.StatusCode.INTERNAL,
    errors.DpuError: grpc.StatusCode.UNKNOWN,
}


def code_of(error: errors.DpuError) -> grpc.StatusCode:
    """Return the status code that `error` travels under."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def to_status(error: errors.DpuError) -> status_pb2.Status:
    """Return `error` as a google.rpc.Status whose ErrorInfo names its class."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=type(error).__name__, domain=DOMAIN))
    number = code_pb2.Code.Value(code_of(error).name)
    return status_pb2.Status(code=number, message=error.message, details=[detail])


def from_rpc(rpc: Exception, service: str = "the DPU") -> errors.DpuError:
    """Return what a failed call (a grpc.RpcError) meant, as one of our errors; `service` names who was asked."""
    # An asynchronous call's error is no grpc.Call, but says the same.
    if not isinstance(rpc, grpc.Call | aio.AioRpcError):
        return errors.Unreachable(f"{service} cannot be reached: {rpc}")
    text = rpc.details() or ""
    status = rpc_status.from_call(rpc)  # type: ignore[arg-type]  # asks only what both have
    for info in _infos(status):
        kind = _CLASSES.get(info.reason)
        if info.domain == DOMAIN and kind is not None:
            return kind(text)
    return _foreign(rpc.code(), text, service)


def _infos(status: status_pb2.Status | None) -> Iterator[error_details_pb2.ErrorInfo]:
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            yield info


def _foreign(code: grpc.StatusCode, text: str, service: str) -> errors.DpuError:
    """Return a status that gRPC made itself, or some other server, as our error."""
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return errors.Unreachable(f"{service} cannot be reached: {text}")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return errors.TimedOut(f"{service} did not answer in time")
        case grpc.StatusCode.UNIMPLEMENTED:
            return errors.VersionMismatch(f"{service} is older than this client and does not know the call: {text}")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return errors.Exhausted(f"{service}: {text}")
        case grpc.StatusCode.UNAUTHENTICATED:
            return errors.NotLoggedIn(f"{service}: {text}")
        case grpc.StatusCode.PERMISSION_DENIED:
            return errors.NotAllowed(f"{service}: {text}")
        case _:
            return errors.InternalError(f"{service}: {code.name}: {text}")


def _tree(kind: type[errors.DpuError]) -> Iterator[type[errors.DpuError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


_CLASSES = {kind.__name__: kind for kind in _tree(errors.DpuError)}
