"""The whole DPU of one user on one machine.

Scheduler, logs and code shipping share this process and one Unix socket. The archive and the worker are processes of
their own, so that neither a recipe nor a FITS header can stall the scheduler's loop; they end with this one.
"""

from __future__ import annotations

import asyncio
import fcntl
import getpass
import os
import secrets
import signal
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import psutil
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

import dpu
import dpud.codeship.main as codeship
import dpud.logs.main as logs
import dpud.scheduler.main as scheduler
from dpu.channel import open_async_channel
from dpu.errors import Conflict, Unreachable
from dpu.local import INSTRUMENTS, KEPT, Home, Running
from dpu_api.v1.scheduler_pb2 import GetDpuRequest
from dpu_api.v1.scheduler_pb2_grpc import SchedulerServiceStub
from dpud.hosting.caller import Caller, Role
from dpud.hosting.children import send_signal
from dpud.hosting.interceptors import Activity
from dpud.hosting.loopback import Loopback
from dpud.hosting.server import listening, until_stopped
from dpud.hosting.settings import Environment, Listening
from dpud.hosting.tokens import token_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

log = structlog.get_logger(__name__)

START_S = 90.0
#: A child has so long to end by itself: a worker's tasks get 10 s after their SIGTERM.
CHILD_STOP_S = 15.0
#: A child that ends sooner than this is started again more slowly each time.
STEADY_S = 10.0
LOG_BYTES = 10_000_000


@dataclass(frozen=True, slots=True)
class Settings:
    """How big the DPU is and how long it waits for somebody."""

    home: Home
    slots: int
    idle_s: float

    @property
    def address(self) -> str:
        """Where scheduler, logs and code shipping listen."""
        return f"unix:{self.home.sockets / 'dpu.sock'}"

    @property
    def archive_address(self) -> str:
        """Where the archive listens."""
        return f"unix:{self.home.sockets / 'archive.sock'}"

    def environment(self, service: str) -> dict[str, str]:
        """Return the settings of one of the services, as its environment."""
        home = self.home.folder
        role = {"worker": "worker", "archive": "worker"}.get(service, "service")
        memory = psutil.virtual_memory().total // 2**20
        own = home / INSTRUMENTS
        return {
            **({"DPU_INSTRUMENTS": str(own)} if own.is_dir() else {}),
            "DPU_NAME": "local",
            "DPU_LISTEN": self.archive_address if service == "archive" else self.address,
            "DPU_TOKENS_FILE": str(home / "tokens.toml"),
            "DPU_TOKEN_FILE": str(home / f"{role}.token"),
            "DPU_STATE": str(home / service),
            "DPU_SCHEDULER": self.address,
            "DPU_LOGS": self.address,
            "DPU_CODE": self.address,
            "DPU_ARCHIVE": self.archive_address,
            "DPU_ARCHIVE_IN_PLACE": str(home / "archive" / "files"),
            "DPU_WORKER_NAME": "local",
            "DPU_WORKER_SLOTS": str(self.slots),
            "DPU_WORKER_MEMORY_MIB": str(int(memory * 0.8)),
            "DPU_END_WITH_PARENT": "1",
        }


async def main(settings: Settings) -> None:
    """Run until SIGTERM, or until nobody has wanted anything for long. Raises Conflict where one runs already."""
    settings.home.prepare()
    with _locked(settings.home):
        _write_tokens(settings.home)
        _trim_log(settings.home)
        try:
            async with _serving(settings) as activity, asyncio.TaskGroup() as group:
                await _archive_answers(settings)
                settings.home.write_running(
                    Running(os.getpid(), dpu.__version__, settings.address, settings.archive_address, settings.slots)
                )
                idle = group.create_task(_until_idle(settings, activity))
                stopped = group.create_task(until_stopped())
                await asyncio.wait([idle, stopped], return_when=asyncio.FIRST_COMPLETED)
                log.info("ending", why="idle" if idle.done() else "asked to")
                settings.home.running.unlink(missing_ok=True)
                idle.cancel()
                stopped.cancel()
        finally:
            settings.home.running.unlink(missing_ok=True)


@asynccontextmanager
async def _serving(settings: Settings) -> AsyncIterator[Activity]:
    """Run all the services; stop them in the order in which they need each other."""
    activity = Activity()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_child(settings, "archive"))
        services = []
        for name, module in (("logs", logs), ("codeship", codeship)):
            environment = Environment(settings.environment(name))
            services += await stack.enter_async_context(module.built(module.Settings.read(environment)))
        here = Loopback(services, Caller(getpass.getuser(), "", frozenset({Role.SERVICE})))
        environment = Environment(settings.environment("scheduler"))
        close_logs = here.unary("/dpu_api.v1.LogService/CloseTasks")
        services += await stack.enter_async_context(scheduler.built(scheduler.Settings.read(environment), close_logs))
        shared = Listening.read(Environment(settings.environment("scheduler")))
        await stack.enter_async_context(listening(shared, services, activity))
        await stack.enter_async_context(_child(settings, "worker"))
        yield activity


@asynccontextmanager
async def _child(settings: Settings, service: str) -> AsyncIterator[None]:
    """Keep a service running as a child process; end it with the block."""
    keeper = asyncio.create_task(_keep(settings, service))
    try:
        yield
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


async def _keep(settings: Settings, service: str) -> None:
    """Start a child, and again whenever it ends by itself, more and more slowly while it ends at once."""
    pause = 0.2
    while True:
        begun = time.monotonic()
        try:
            code = await _lived(settings, service)
        except OSError as error:
            # The machine has no room for another process, and may have some again.
            log.warning("a service cannot be started", name=service, reason=error.strerror)
        else:
            log.error("a service ended by itself", name=service, exit_code=code)
        pause = 0.2 if time.monotonic() - begun > STEADY_S else min(pause * 2, 30.0)
        await asyncio.sleep(pause)


async def _lived(settings: Settings, service: str) -> int:
    """Run a service as a child until it ends by itself, and return its exit code. Raises OSError."""
    environment = {key: os.environ[key] for key in KEPT if key in os.environ} | settings.environment(service)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dpud", service, stdin=asyncio.subprocess.PIPE, env=environment
    )
    try:
        return await process.wait()
    except asyncio.CancelledError:
        await _end(process, service)
        raise


async def _end(process: asyncio.subprocess.Process, service: str) -> None:
    send_signal(process, signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), CHILD_STOP_S)
    except TimeoutError:
        log.warning("a service did not end in time and is killed", name=service)
        send_signal(process, signal.SIGKILL)
        await process.wait()


async def _archive_answers(settings: Settings) -> None:
    """Wait until the archive serves. Raises Unreachable."""
    async with open_async_channel(settings.archive_address, "") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types leave the methods out
        try:
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=START_S, wait_for_ready=True)
        except grpc.RpcError as error:
            raise Unreachable(f"the archive does not start: see {settings.home.log}") from error


async def _until_idle(settings: Settings, activity: Activity) -> None:
    """Return when for `idle_s` there has been no open job and nobody has called."""
    token = (settings.home.folder / "service.token").read_text().strip()
    async with open_async_channel(settings.address, token) as channel:
        stub = SchedulerServiceStub(channel)
        while (rest := activity.last + settings.idle_s - time.monotonic()) > 0:
            await asyncio.sleep(min(60.0, rest))
            answer = await stub.GetDpu(GetDpuRequest(), timeout=10)
            if answer.open_jobs:
                activity.note()


@contextmanager
def _locked(home: Home) -> Iterator[None]:
    """Hold the home's lock. Raises Conflict where another DPU lives there."""
    with home.lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"a DPU runs in {home.folder} already: `dpud stop` ends it") from None
        yield


def _write_tokens(home: Home) -> None:
    """Make the three secrets where they are not there yet, and the table of whom they stand for.

    They stay the same when the DPU is started anew, so that a prompt that is open goes on.
    """
    user = getpass.getuser()
    roles = {"token": ["user", "operator"], "worker.token": ["worker"], "service.token": ["service"]}
    rows = []
    for name, kinds in roles.items():
        file = home.folder / name
        if not file.exists():
            _write_private(file, secrets.token_urlsafe(32))
        rows.append(token_row(file.read_text().strip(), user, ["*"], kinds))
    _write_private(home.folder / "tokens.toml", "\n".join(rows))


def _write_private(file: Path, text: str) -> None:
    fresh = file.with_name(file.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    fresh.replace(file)


def _trim_log(home: Home) -> None:
    """Keep the log bounded: this process writes at its end, so it is emptied in place after a copy."""
    if home.log.exists() and home.log.stat().st_size > LOG_BYTES:
        home.log.with_suffix(".log.1").write_bytes(home.log.read_bytes())
        os.truncate(home.log, 0)
