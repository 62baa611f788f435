"""Channels to the services: TLS beyond this machine, keepalive, the leader of several, token and project in a call."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from grpc import aio

from dpu.tracing import carried

if TYPE_CHECKING:
    from collections.abc import Callable

Metadata: TypeAlias = "tuple[tuple[str, str], ...]"

MIB = 1024 * 1024
#: Larger messages are streamed in chunks of CHUNK.
CHUNK = MIB
MAX_MESSAGE = 16 * MIB

#: The server's side of the same agreement is in dpud.hosting.server.
KEEPALIVE_MS = 10_000
OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Of pings that measure the line, behind which keepalive's own have to wait: a minute, where nobody says.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # An http proxy of the environment must never see a token.
    ("grpc.enable_http_proxy", 0),
)

#: The name under which whoever serves says to health checks that it does: of several schedulers, the leader alone.
LEADER = "dpu"
#: Calls go to those addresses that say so, and to others as soon as these do.
_FINDING = json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": LEADER}})

_LOCAL = re.compile(r"unix:[^,]*|(dns:///)?(127\.0\.0\.1|localhost|\[::1\]):\d+")
#: Addresses of which there may be several, by gRPC's name for their kind.
_KINDS = {"unix": r"unix:/[^,]+", "ipv4": r"[\d.]+:\d+", "ipv6": r"\[[\da-fA-F:]+\]:\d+"}


def is_local(address: str) -> bool:
    """Return whether only this machine can reach an address: then plain text is spoken there, everywhere else TLS."""
    return all(_LOCAL.fullmatch(each) for each in address.split(","))


def target(address: str) -> str:
    """Return an address, or several of this machine with commas between them, as gRPC has it. Raises ValueError."""
    each = address.split(",")
    if len(each) == 1:
        return address
    for kind, form in _KINDS.items():
        if is_local(address) and all(re.fullmatch(form, one) for one in each):
            return f"{kind}:{','.join(one.removeprefix('unix:') for one in each)}"
    raise ValueError(
        "several addresses must be sockets of this machine, 'unix:/path,unix:/other', or its ports, "
        "'127.0.0.1:7070,127.0.0.1:7071'; other machines share one name, which has an address of each"
    )


def _options(address: str) -> tuple[tuple[str, Any], ...]:
    """Return the options of a channel; a name, or several addresses, may be those of several schedulers."""
    is_one = "," not in address and not address.startswith("dns:") and is_local(address)
    return OPTIONS if is_one else (*OPTIONS, ("grpc.service_config", _FINDING))


def metadata(token: str, project: str) -> Metadata:
    """Return what goes with every call: who asks, and in which project."""
    return (("authorization", f"Bearer {token}"), ("dpu-project", project))


def open_channel(address: str, token: str | Callable[[], str], project: str) -> grpc.Channel:
    """Open a synchronous channel, for the client.

    `token` may be what gives it anew for each call. `address` is 'unix:/path' or 'host:port', or several of this
    machine with commas between them. Nothing is connected yet, so nothing is raised.
    """
    if is_local(address):
        channel = grpc.insecure_channel(target(address), options=_options(address))
    else:
        channel = grpc.secure_channel(target(address), _credentials(), options=_options(address))
    current = token if callable(token) else lambda: token
    return grpc.intercept_channel(channel, _Signed(lambda: metadata(current(), project)))


def open_async_channel(address: str, token: str, project: str = "") -> aio.Channel:
    """Open a channel for a service that calls another, on the running loop."""
    extra = metadata(token, project)
    signers = [signer(extra) for signer in (_SignUnaryUnary, _SignUnaryStream, _SignStreamUnary, _SignStreamStream)]
    if is_local(address):
        return aio.insecure_channel(target(address), options=_options(address), interceptors=signers)
    return aio.secure_channel(target(address), _credentials(), options=_options(address), interceptors=signers)


def _credentials() -> grpc.ChannelCredentials:
    """Return what makes a channel TLS: it trusts the authorities in GRPC_DEFAULT_SSL_ROOTS_FILE_PATH, else gRPC's."""
    return grpc.ssl_channel_credentials()


class _Details(grpc.ClientCallDetails):
    """The details of a call, with our metadata behind its own."""

    def __init__(self, details: grpc.ClientCallDetails, extra: Metadata) -> None:
        self.method = details.method
        self.timeout = details.timeout
        self.metadata = (*(details.metadata or ()), *extra)
        self.credentials = details.credentials
        self.wait_for_ready = details.wait_for_ready
        self.compression = details.compression


class _Signed(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds the caller's metadata to every call."""

    def __init__(self, extra: Callable[[], Metadata]) -> None:
        self._extra = extra

    def _sign(
        self, continuation: Callable[[grpc.ClientCallDetails, Any], Any], client_call_details: Any, request: Any
    ) -> Any:
        return continuation(_Details(client_call_details, (*self._extra(), *carried())), request)

    intercept_unary_unary: Any = _sign
    intercept_unary_stream: Any = _sign
    intercept_stream_unary: Any = _sign
    intercept_stream_stream: Any = _sign


class _AsyncSigner:
    """What the four kinds of asynchronous interceptor share (gRPC wants a class for each kind)."""

    def __init__(self, extra: Metadata) -> None:
        self._extra = extra

    async def sign(self, continuation: Callable[[Any, Any], Any], details: aio.ClientCallDetails, request: Any) -> Any:
        merged = aio.Metadata(*(details.metadata or ()), *self._extra, *carried())
        signed = aio.ClientCallDetails(
            details.method, details.timeout, merged, details.credentials, details.wait_for_ready
        )
        return await continuation(signed, request)


class _SignUnaryUnary(_AsyncSigner, aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary: Any = _AsyncSigner.sign


class _SignUnaryStream(_AsyncSigner, aio.UnaryStreamClientInterceptor):
    intercept_unary_stream: Any = _AsyncSigner.sign


class _SignStreamUnary(_AsyncSigner, aio.StreamUnaryClientInterceptor):
    intercept_stream_unary: Any = _AsyncSigner.sign


class _SignStreamStream(_AsyncSigner, aio.StreamStreamClientInterceptor):
    intercept_stream_stream: Any = _AsyncSigner.sign
