"""What KEDA asks: how many worker slots are wanted, a class of memory each."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from dpu_api.externalscaler import externalscaler_pb2, externalscaler_pb2_grpc
from dpud.hosting.server import OPTIONS, open_port
from dpud.hosting.settings import Address, BadSetting, Environment, Tls
from dpud.hosting.tls import Renewed
from dpud.scheduler.demand import Class, wanted
from dpud.scheduler.loop import JOBS, Loop
from dpud.scheduler.watchers import heard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from grpc.aio import ServicerContext

NAME = "externalscaler.ExternalScaler"
METRIC = "wanted_slots"
#: Between two looks at the queue, however many ask.
PAUSE_S = 0.5
#: How long a change may go unheard: a claim rings no bell for those who count jobs.
LOOK_S = 2.0
#: No DPU has more classes of workers: more answers are not kept.
CLASSES = 16

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """Where KEDA asks, and how it is known: it cannot send a token, but it can show a certificate."""

    listen: Address
    tls: Tls | None = None
    #: Who vouches for the certificates of those who may ask.
    clients: Path | None = None

    @classmethod
    def read(cls, environment: Environment) -> Settings | None:
        """Read DPU_SCALER_LISTEN and DPU_SCALER_CLIENTS; None where nobody may ask. Raises BadSetting."""
        listen = environment.get("DPU_SCALER_LISTEN", Address.parse, None)
        clients = environment.get("DPU_SCALER_CLIENTS", Path, None)
        return cls(listen, Tls.read(environment), clients) if listen else None

    def __post_init__(self) -> None:
        if not (self.listen.is_local or (self.tls and self.clients)):
            raise BadSetting(
                f"DPU_SCALER_LISTEN={self.listen.text!r}: refused, because beyond loopback it needs TLS and knows who "
                "asks by their certificates: set DPU_TLS_CERTIFICATE, DPU_TLS_KEY and DPU_SCALER_CLIENTS"
            )


@dataclass(frozen=True, slots=True)
class Trigger:
    """What a trigger's metadata says: which tasks, and how many of them a pod runs at a time."""

    kind: Class
    slots: int

    @classmethod
    def read(cls, metadata: Mapping[str, str]) -> Trigger:
        """Return the trigger. Raises ValueError that names what makes no sense."""
        slots = _number(metadata, "slots", 1)
        if slots < 1:
            raise ValueError(f"slots={slots}: a pod has at least one")
        whole = Class()
        return cls(
            Class(
                above_mib=_number(metadata, "aboveMib", whole.above_mib),
                up_to_mib=_number(metadata, "upToMib", whole.up_to_mib),
            ),
            slots,
        )


def _number(metadata: Mapping[str, str], key: str, default: int) -> int:
    text = metadata.get(key, "")
    try:
        return int(text) if text else default
    except ValueError:
        raise ValueError(f"{key}={text!r}: must be a whole number") from None


class Scaler(externalscaler_pb2_grpc.ExternalScalerServicer):
    """Answers from the state of the loop, and looks at it at most twice a second."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._known: dict[Class, tuple[float, int]] = {}

    async def IsActive(  # noqa: N802 (gRPC's name)
        self, request: externalscaler_pb2.ScaledObjectRef, context: ServicerContext[Any, Any]
    ) -> externalscaler_pb2.IsActiveResponse:
        """Answer whether any slot is wanted."""
        trigger = await _trigger(request, context)
        return externalscaler_pb2.IsActiveResponse(result=self._wanted(trigger.kind) > 0)

    async def StreamIsActive(  # noqa: N802 (gRPC's name)
        self, request: externalscaler_pb2.ScaledObjectRef, context: ServicerContext[Any, Any]
    ) -> AsyncIterator[externalscaler_pb2.IsActiveResponse]:
        """Send whether any slot is wanted, now and whenever that changes."""
        trigger = await _trigger(request, context)
        told: bool | None = None
        with self._loop.watchers.watching(JOBS) as bell:
            while True:
                bell.clear()
                is_active = self._wanted(trigger.kind) > 0
                if is_active != told:
                    told = is_active
                    yield externalscaler_pb2.IsActiveResponse(result=is_active)
                await heard(bell, LOOK_S)
                await asyncio.sleep(PAUSE_S)

    async def GetMetricSpec(  # noqa: N802 (gRPC's name)
        self, request: externalscaler_pb2.ScaledObjectRef, context: ServicerContext[Any, Any]
    ) -> externalscaler_pb2.GetMetricSpecResponse:
        """Answer what is counted, and how many of it are one pod's."""
        slots = (await _trigger(request, context)).slots
        spec = externalscaler_pb2.MetricSpec(metricName=METRIC, targetSize=slots, targetSizeFloat=slots)
        return externalscaler_pb2.GetMetricSpecResponse(metricSpecs=[spec])

    async def GetMetrics(  # noqa: N802 (gRPC's name)
        self, request: externalscaler_pb2.GetMetricsRequest, context: ServicerContext[Any, Any]
    ) -> externalscaler_pb2.GetMetricsResponse:
        """Answer how many slots are wanted."""
        count = self._wanted((await _trigger(request.scaledObjectRef, context)).kind)
        value = externalscaler_pb2.MetricValue(metricName=METRIC, metricValue=count, metricValueFloat=count)
        return externalscaler_pb2.GetMetricsResponse(metricValues=[value])

    def _wanted(self, kind: Class) -> int:
        now = asyncio.get_running_loop().time()
        looked, count = self._known.get(kind, (-math.inf, 0))
        if now - looked >= PAUSE_S:
            looked, count = now, wanted(self._loop.state, kind)
            if len(self._known) > CLASSES:
                self._known.clear()
            self._known[kind] = looked, count
        return count


async def _trigger(request: externalscaler_pb2.ScaledObjectRef, context: ServicerContext[Any, Any]) -> Trigger:
    try:
        return Trigger.read(request.scalerMetadata)
    except ValueError as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        raise AssertionError("abort raises") from error


@asynccontextmanager
async def answering(settings: Settings | None, loop: Loop) -> AsyncIterator[None]:
    """Answer KEDA during the block, on a port of its own; without settings nobody is answered. Raises BadSetting."""
    if settings is None:
        yield
        return
    server = aio.server(options=OPTIONS)
    health = health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    externalscaler_pb2_grpc.add_ExternalScalerServicer_to_server(Scaler(loop), server)
    open_port(server, settings.listen, "DPU_SCALER_LISTEN", _certificate(settings))
    await server.start()
    for name in ("", NAME):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    log.info("answering KEDA", address=settings.listen.text)
    try:
        yield
    finally:
        # Its streams last as long as it does: there is nothing to wait for.
        await server.stop(None)


def _certificate(settings: Settings) -> grpc.ServerCredentials | None:
    if settings.listen.is_local or settings.tls is None:
        return None
    return Renewed(settings.tls, settings.clients).credentials()
