"""Puts services on a port: TLS, health, reflection, keepalive, and a stop that lets calls end."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from dpu.channel import KEEPALIVE_MS, LEADER, MAX_MESSAGE
from dpud.hosting import metrics
from dpud.hosting.interceptors import Activity, CallInterceptor
from dpud.hosting.settings import Address, BadSetting, Listening
from dpud.hosting.tls import Renewed
from dpud.hosting.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    import grpc

log = structlog.get_logger(__name__)

#: How long calls that run may go on after a stop was asked for.
GRACE_S = 5.0

OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.so_reuseport", 0),
)


@asynccontextmanager
async def listening(
    settings: Listening,
    services: Sequence[tuple[str, Callable[[aio.Server], None]]],
    activity: Activity | None = None,
    *,
    serving: bool = True,
) -> AsyncIterator[aio.Server]:
    """Serve `services`, pairs of full name and what adds it to a server, until the block ends.

    `activity` is told of users' calls. Without `serving` the process is healthy and its services are not there yet:
    clients that check health go elsewhere.

    Raises BadSetting where the address is beyond loopback and there is no certificate, or where it is taken.
    """
    if not settings.listen.is_local and settings.tls is None:
        raise BadSetting(
            f"DPU_LISTEN={settings.listen.text!r}: refused, because beyond loopback a service needs TLS: "
            "set DPU_TLS_CERTIFICATE and DPU_TLS_KEY"
        )
    server = aio.server(interceptors=[CallInterceptor(Tokens.read(settings.tokens), activity)], options=OPTIONS)
    # gRPC would wait for each registered method by a task of its own, and look at all of them at each call.
    server.add_registered_method_handlers = _not_registered  # type: ignore[assignment]  # found by name all the same
    health = health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    names = [name for name, _ in services]
    metrics.expect(names)
    for _, add in services:
        add(server)
    reflection.enable_server_reflection([*names, reflection.SERVICE_NAME, "grpc.health.v1.Health"], server)
    _bind(server, settings)
    await server.start()
    probed = await _probed(settings.health, health)
    await _announce(health, names, serving=serving)
    log.info("listening", address=settings.listen.text, services=names, serving=serving)
    try:
        yield server
    finally:
        await health.enter_graceful_shutdown()
        await server.stop(GRACE_S if serving else None)
        await probed.stop(None)


async def _announce(health: health_aio.HealthServicer, names: list[str], *, serving: bool) -> None:
    """Say that the process lives, and whether it does the work of its services."""
    ready = health_pb2.HealthCheckResponse.SERVING
    await health.set("", ready)
    # LEADER: a client that knows several addresses goes by this one name, whatever service it calls there.
    for name in (LEADER, *names):
        await health.set(name, ready if serving else health_pb2.HealthCheckResponse.NOT_SERVING)


def _not_registered(_service: str, _handlers: object) -> None:
    """Leave the methods of a service to its generic handler."""


async def _probed(address: Address | None, health: health_aio.HealthServicer) -> aio.Server:
    """Serve health alone on `address`, in plain text: nobody learns more from it than that the process lives."""
    server = aio.server(options=OPTIONS)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    if address is not None:
        open_port(server, address, "DPU_HEALTH_LISTEN")
    await server.start()
    return server


def _bind(server: aio.Server, settings: Listening) -> None:
    if (path := settings.listen.socket) is not None:
        # A socket file that a killed service left behind is in nobody's use: its folder is locked by its owner.
        path.unlink(missing_ok=True)
    # On loopback and on sockets everybody speaks plain text: that needs no certificate, and no name to be checked.
    certificate = None if settings.listen.is_local or settings.tls is None else Renewed(settings.tls).credentials()
    open_port(server, settings.listen, "DPU_LISTEN", certificate)
    if path is not None:
        path.chmod(0o600)
    if settings.metrics is not None:
        metrics.expose(settings.metrics, "dpud")


def open_port(
    server: aio.Server, address: Address, key: str, certificate: grpc.ServerCredentials | None = None
) -> None:
    """Have a server listen on the address that the setting `key` names. Raises BadSetting."""
    try:
        if certificate is None:
            server.add_insecure_port(address.text)
        else:
            server.add_secure_port(address.text, certificate)
    except RuntimeError as error:
        raise BadSetting(f"{key}={address.text!r}: cannot listen there: {error}") from error


async def until_stopped() -> None:
    """Return when SIGTERM or SIGINT comes."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
