"""All services as processes of their own on Unix sockets, each of which can be replaced while the others go on."""

import asyncio
import hashlib
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dpu.channel import open_async_channel, open_channel
from dpud.hosting.children import send_signal

#: In the order in which they are started; each needs only those before it.
SERVICES = ("archive", "logs", "codeship", "scheduler", "worker")
ROLES = {"ann": "user", "worker": "worker", "outbox": "service"}
PATIENCE_S = 60.0


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Fleet:
    """The services below `folder`, which should have a short path: a socket's has at most 107 bytes."""

    def __init__(self, folder: Path, told=()):
        self.folder = folder
        self.told = dict(told)
        self.processes = {}
        self.metrics = {name: free_port() for name in SERVICES}
        rows = []
        for user, role in ROLES.items():
            (folder / f"{user}.token").write_text(user)
            (folder / f"{user}.token").chmod(0o600)
            secret = hashlib.sha256(user.encode()).hexdigest()
            rows.append(f'[[token]]\nsha256 = "{secret}"\nuser = "{user}"\nprojects = ["*"]\nroles = ["{role}"]\n')
        (folder / "tokens.toml").write_text("\n".join(rows))

    def address(self, service):
        return f"unix:{self.folder / service}"

    def environment(self, service):
        own = {"scheduler": "outbox", "archive": "worker"}.get(service, "worker")
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ} | self.told
        return kept | {
            "DPU_NAME": "fleet",
            "DPU_STATE": str(self.folder / "state" / service),
            "DPU_LISTEN": self.address(service),
            "DPU_METRICS_LISTEN": f"127.0.0.1:{self.metrics[service]}",
            "DPU_TOKENS_FILE": str(self.folder / "tokens.toml"),
            "DPU_TOKEN_FILE": str(self.folder / f"{own}.token"),
            "DPU_SCHEDULER": self.address("scheduler"),
            "DPU_LOGS": self.address("logs"),
            "DPU_CODE": self.address("codeship"),
            "DPU_ARCHIVE": self.address("archive"),
            "DPU_WORKER_NAME": "one",
            "DPU_WORKER_SLOTS": "2",
            "DPU_WORKER_MEMORY_MIB": "2048",
            "DPU_WORKER_UIDS": "none",
        }

    async def start(self, service, python=sys.executable):
        """Start a service by a Python that has it, and wait until it serves."""
        (self.folder / "state").mkdir(exist_ok=True)
        with (self.folder / f"{service}.log").open("ab") as log:
            self.processes[service] = await asyncio.create_subprocess_exec(
                *(python, "-m", "dpud", service), env=self.environment(service), stdout=log, stderr=log
            )
        await self._ready(service)

    async def stop(self, service):
        """End a service as an operator does, and wait for it."""
        process = self.processes.pop(service)
        send_signal(process, signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), PATIENCE_S)
        assert code == 0, f"{service} ended with {code}: {self.tail(service)}"

    async def _ready(self, service):
        if service == "worker":
            return
        async with open_async_channel(self.address(service), "") as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            try:
                await check(health_pb2.HealthCheckRequest(), timeout=2 * PATIENCE_S, wait_for_ready=True)
            except grpc.RpcError as error:
                raise AssertionError(f"{service} does not serve: {self.tail(service)}") from error

    def tail(self, service):
        return (self.folder / f"{service}.log").read_text()[-2_000:]

    def channel(self, service, user="ann", project="survey"):
        """Open a synchronous channel, as users have them."""
        return open_channel(self.address(service), user, project)

    def configuration(self):
        """Write the file by which a user's client finds this DPU; return the variables that name it."""
        file = self.folder / "config.toml"
        file.write_text(
            f'default = "fleet"\nusername = "ann"\nproject = "survey"\n[dpus.fleet]\n'
            f'address = "{self.address("scheduler")}"\ntoken_file = "{self.folder}/ann.token"\n'
        )
        return {"DPU_CONFIG": str(file)}

    def kill(self):
        for process in self.processes.values():
            if process.returncode is None:
                send_signal(process, signal.SIGKILL)


@asynccontextmanager
async def sailing(folder, python=sys.executable, **told):
    """Start all services, told some settings more; end them with the block."""
    fleet = Fleet(folder, told)
    try:
        for service in SERVICES:
            await fleet.start(service, python)
        yield fleet
    finally:
        fleet.kill()
        await asyncio.gather(*(process.wait() for process in fleet.processes.values()))


async def until(condition, what, seconds=PATIENCE_S):
    """Return what `condition` returns, once that is true; it may fail to reach a service meanwhile."""
    found = "nothing yet"
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    if found := await condition():
                        return found
                except (OSError, grpc.RpcError) as error:
                    found = error
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"waited {seconds} s for {what}: {found}") from None
