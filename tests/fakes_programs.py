"""A DPU's schedulers and workers as processes of their own, which are killed and stopped, and who calls them.

Archive, logs and code are in this process; they remember what they were told.
"""

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

import fakes_worker
from dpu.channel import open_async_channel
from dpu.config import KnownDpu
from dpu.errors import DpuError, Unreachable
from dpu.link import Link
from dpu_api.v1 import archive_pb2_grpc, codeship_pb2_grpc, job_pb2, logs_pb2_grpc, scheduler_pb2
from dpud.hosting.children import send_signal
from dpud.hosting.server import listening
from dpud.hosting.settings import Address, Listening
from dpud.hosting.tokens import token_row
from fakes_house import specs, submission
from fakes_scheduler import RecordingArchive, RecordingLogs

#: What a task takes.
TASK_S = 0.2
#: On a machine that is busy with other things; nothing here is a bar.
DEADLINE_S = 600
SERVING = health_pb2.HealthCheckResponse.SERVING
ROLES = {"anna": "user", "ruth": "operator", "worker": "worker", "service": "service"}

RECIPES = f"""
from datetime import UTC, date, datetime

def Bias(options, archive, scratch, spec):
    print("at", spec.label)
    time.sleep(600 if spec.label == "long" else {TASK_S})
    night, begun = date(2000, 4, 28), datetime(2000, 4, 29, tzinfo=UTC)
    archive.save(Frame(frame_class="BiasFrame", instrument="WFI", chip="ccd50", night=night, date_obs=begun))
"""


class Archive(fakes_worker.Archive, RecordingArchive):
    """Takes products of workers, and what the outbox says of them."""

    def __init__(self):
        fakes_worker.Archive.__init__(self)
        RecordingArchive.__init__(self)


class Logs(fakes_worker.Logs, RecordingLogs):
    """Takes lines of workers, and what the outbox says of them."""

    def __init__(self):
        fakes_worker.Logs.__init__(self)
        RecordingLogs.__init__(self)


class Others:
    """Archive, logs and code on one socket, and who is let in by all."""

    def __init__(self, folder):
        self.address = f"unix:{folder / 'others'}"
        self.archive, self.logs, self.code = Archive(), Logs(), fakes_worker.Code()
        self._tokens = folder / "tokens.toml"
        self._tokens.write_text("\n".join(token_row(name, name, ["*"], [role]) for name, role in ROLES.items()))
        for service, token in (("scheduler", "service"), ("worker", "worker")):
            (folder / f"{service}.token").write_text(token)

    def serving(self):
        """Serve until the block ends."""
        servicers = (
            ("Archive", archive_pb2_grpc, self.archive),
            ("Log", logs_pb2_grpc, self.logs),
            ("Code", codeship_pb2_grpc, self.code),
        )
        services = [
            (f"dpu_api.v1.{name}Service", _adding(getattr(module, f"add_{name}ServiceServicer_to_server"), servicer))
            for name, module, servicer in servicers
        ]
        return listening(Listening(listen=Address.parse(self.address), tokens=self._tokens, metrics=None), services)

    def ship(self):
        """Take the recipes; return their digest."""
        return self.code.put(fakes_worker.tree_of(RECIPES))


def _adding(add, servicer):
    return lambda server: add(servicer, server)


class Program:
    """A `dpud SERVICE` that is started again whenever it ends."""

    def __init__(self, folder, name, service, settings):
        self.name = name
        self.log = folder / f"{name}.log"
        self.starts = 0
        self._over = False
        self._service = service
        self._process = None
        self._settings = {
            "DPU_STATE": str(folder / f"state-{name}"),
            "DPU_TOKEN_FILE": str(folder / f"{service}.token"),
            **settings,
        }

    async def run(self):
        """Keep it running until cancelled."""
        with self.log.open("ab") as log:
            while not self._over:
                self.starts += 1
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "dpud", self._service),
                    env=os.environ | self._settings,
                    stderr=log,
                    stdout=log,
                )
                try:
                    await self._process.wait()
                finally:
                    self.send(signal.SIGCONT)
                    self.send(signal.SIGKILL)
                    await self._process.wait()

    def send(self, number):
        """Send a signal to the process and all that it has started."""
        if self._process is not None and self._process.returncode is None:
            send_to_all(self._process.pid, number)

    def end(self):
        """Kill it, and do not start it again."""
        self._over = True
        self.kill()

    def kill(self):
        """Send SIGKILL to the process alone, as the kernel does that is out of memory."""
        send_signal(self._process, signal.SIGKILL)


def send_to_all(pid, number):
    """Send a signal to a process and all that it has started."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                each.send_signal(number)


class Scheduler(Program):
    """A scheduler process."""

    def __init__(self, folder, name, others, database=None):
        self.socket = str(folder / name)
        settings = {
            "DPU_NAME": "chaos",
            "DPU_LISTEN": f"unix:{self.socket}",
            "DPU_TOKENS_FILE": str(folder / "tokens.toml"),
            **dict.fromkeys(("DPU_LOGS", "DPU_ARCHIVE", "DPU_CODE"), others),
            **({"DPU_DATABASE": database} if database else {}),
        }
        super().__init__(folder, name, "scheduler", settings)

    async def leads(self):
        async with open_async_channel(f"unix:{self.socket}", "") as channel:
            request = health_pb2.HealthCheckRequest(service="dpu_api.v1.DispatchService")
            try:
                return (await health_pb2_grpc.HealthStub(channel).Check(request, timeout=0.5)).status == SERVING
            except grpc.RpcError:
                return False


class Customer:
    """A user's own client, which knows several addresses."""

    def __init__(self, folder, address):
        (folder / "anna.token").write_text("anna")
        known = KnownDpu(name="far", address=address, token_file=folder / "anna.token")
        #: What the client said to its user.
        self.said = []
        self._link = Link(known, fakes_worker.PROJECT, home=folder, say=self.said.append)

    def submit(self, digest, tasks):
        """Return the job that was taken."""
        request = submission(tasks=specs(*map(str, range(tasks))), code_digest=digest)
        return self._link.ask(lambda services: services.scheduler.SubmitJob, request).job

    def wait(self, job):
        """Return a job when it has ended, waited for with calls that a scheduler keeps open."""
        deadline = time.monotonic() + DEADLINE_S
        while job.state < job_pb2.JOB_STATE_FINISHED:
            assert time.monotonic() < deadline, job
            request = scheduler_pb2.WaitJobRequest(job_id=job.id, after_revision=job.revision)
            request.timeout.FromSeconds(10)
            # A machine that is busy may take longer to bring up a leader than a client is patient.
            with suppress(Unreachable):
                job = self._link.ask(lambda services: services.scheduler.WaitJob, request).job
        return job

    def close(self):
        self._link.close()


def worker_program(folder, number, line, others, **more):
    """Return a real worker with a folder and uids of its own, and `more` settings."""
    settings = {
        "DPU_SCHEDULER": line,
        **dict.fromkeys(("DPU_LOGS", "DPU_ARCHIVE", "DPU_CODE"), others),
        "DPU_WORKER_NAME": f"real-{number}",
        "DPU_WORKER_SLOTS": "2",
        "DPU_WORKER_MEMORY_MIB": "4096",
        "DPU_WORKER_UIDS": f"{57_000 + 100 * number}-{57_099 + 100 * number}",
        **more,
    }
    return Program(folder, f"real-{number}", "worker", settings)


async def patiently(call):
    """Repeat a call until it is answered, as the client does."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return await call()
        except (grpc.RpcError, DpuError, AssertionError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
