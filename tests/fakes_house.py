"""A scheduler on a Unix socket, people and workers by script, archive and logs on record."""

import asyncio
import uuid
from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from dpu.channel import open_async_channel
from dpu.status import from_rpc
from dpu_api.v1 import (
    archive_pb2_grpc,
    catalogue_pb2,
    dispatch_pb2,
    dispatch_pb2_grpc,
    job_pb2,
    logs_pb2_grpc,
    scheduler_pb2,
    scheduler_pb2_grpc,
)
from dpud.hosting.server import listening
from dpud.hosting.settings import Environment
from dpud.hosting.tokens import digest_of
from dpud.scheduler import main
from fakes_scheduler import RecordingArchive, RecordingLogs

ROLES = {"anna": "user", "bert": "user", "ruth": "operator", "worker": "worker", "service": "service"}


class House:
    """A scheduler on a Unix socket, with an archive and logs that remember what they were told."""

    def __init__(self, folder):
        self.folder = folder
        self.archive = RecordingArchive()
        self.logs = RecordingLogs()
        rows = [
            f'[[token]]\nsha256 = "{digest_of(name)}"\nuser = "{name}"\nprojects = ["*"]\nroles = ["{role}"]\n'
            for name, role in ROLES.items()
        ]
        (folder / "tokens.toml").write_text("\n".join(rows))
        (folder / "own.token").write_text("service")
        self.settings = main.Settings.read(
            Environment(
                {
                    "DPU_NAME": "trial",
                    "DPU_STATE": str(folder / "state"),
                    "DPU_LISTEN": self.address,
                    "DPU_TOKENS_FILE": str(folder / "tokens.toml"),
                    "DPU_TOKEN_FILE": str(folder / "own.token"),
                    "DPU_LOGS": self.address,
                    "DPU_ARCHIVE": self.address,
                    "DPU_CODE": self.address,
                }
            )
        )

    @property
    def address(self):
        return f"unix:{self.folder / 's'}"

    @asynccontextmanager
    async def open(self):
        """Serve; yields stubs by user."""
        services = [
            ("dpu_api.v1.ArchiveService", self._adding(archive_pb2_grpc, "Archive", self.archive)),
            ("dpu_api.v1.LogService", self._adding(logs_pb2_grpc, "Log", self.logs)),
        ]
        async with (
            main.built(self.settings) as own,
            listening(self.settings.listening, [*own, *services]),
            Callers(self.address) as callers,
        ):
            yield callers

    @staticmethod
    def _adding(module, name, servicer):
        return lambda server: getattr(module, f"add_{name}ServiceServicer_to_server")(servicer, server)


class Callers:
    """Stubs of the scheduler for each user."""

    def __init__(self, address):
        self._address = address
        self._channels = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for channel in self._channels:
            await channel.close()

    def person(self, name="anna", project="kids"):
        return scheduler_pb2_grpc.SchedulerServiceStub(self._open(name, project))

    async def worker(self, name="w1", slots=2):
        stub = dispatch_pb2_grpc.DispatchServiceStub(self._open("worker", ""))
        worker = Worker(stub, name, slots)
        await worker.register()
        return worker

    def _open(self, name, project):
        channel = open_async_channel(self._address, name, project)
        self._channels.append(channel)
        return channel


class Worker:
    """A worker by script."""

    def __init__(self, stub, name, slots):
        self.stub = stub
        self.name = name
        self.slots = slots
        self.calls = 0
        self.session = ""

    async def register(self):
        request = dispatch_pb2.RegisterWorkerRequest(
            name=self.name,
            slots=self.slots,
            memory_mib=8_000,
            catalogue=catalogue_pb2.Catalogue(version="7", sequences=[BIAS]),
        )
        self.session = (await self.stub.RegisterWorker(request)).session

    def work(self, **words):
        return self.stub.Work(self.words(**words))

    def words(self, *, ended=(), held=(), room=0, wait=5.0, draining=False):
        self.calls += 1
        return dispatch_pb2.WorkRequest(
            session=self.session,
            call=self.calls,
            ended=ended,
            held=[dispatch_pb2.HeldLease(ref=lease.ref, token=lease.token, started=True) for lease in held],
            room=room,
            memory_mib=8_000,
            wait=Duration(nanos=int(wait % 1 * 1e9), seconds=int(wait)),
            draining=draining,
        )

    @asynccontextmanager
    async def attending(self):
        """Open a stream, and end it."""
        call = self.stub.Attend()
        try:
            yield Attending(self, call)
        finally:
            call.cancel()

    async def plan(self, lease, *labels):
        async def messages():
            yield dispatch_pb2.ReportPlanRequest(session=self.session, report=ending(lease))
            for label in labels:
                yield dispatch_pb2.ReportPlanRequest(tasks=[job_pb2.TaskSpec(label=label, inputs=["f1"])])

        await self.stub.ReportPlan(messages())


class Attending:
    """A worker's stream."""

    def __init__(self, worker, call):
        self._worker = worker
        self.call = call
        self.heard = 0

    async def say(self, **words):
        await self.call.write(dispatch_pb2.AttendRequest(work=self._worker.words(**words), heard=self.heard))

    async def hear(self):
        """Return what is said next; None at the end."""
        message = await asyncio.wait_for(self.call.read(), 60)
        if not isinstance(message, dispatch_pb2.AttendResponse):
            return None
        assert message.number == self.heard + 1
        self.heard = message.number
        return message.answer


BIAS = catalogue_pb2.Sequence(
    name="Bias",
    stages=[catalogue_pb2.Stage(recipe="Bias", seconds=10, memory_mib=300, partial=True)],
    options=[catalogue_pb2.Option(short_name="i", long_name="instrument", kind="OPTION_KIND_TEXT")],
)


def submission(**overrides):
    values = {
        "request_id": str(uuid.uuid4()),
        "sequence": BIAS,
        "options": job_pb2.ValueMap(entries={"instrument": job_pb2.Value(string_value="WFI")}),
        "commit": True,
    }
    return scheduler_pb2.SubmitJobRequest(**{**values, **overrides})


def specs(*labels):
    return [job_pb2.TaskSpec(label=label) for label in labels]


def ending(lease, failure=None, **figures):
    values = {"run_s": 2.0, "log_lines": 3, "products": 1, **figures}
    return dispatch_pb2.TaskReport(ref=lease.ref, token=lease.token, failure=failure, **values)


async def fails(call, kind, match):
    with pytest.raises(grpc.RpcError) as caught:
        await call
    error = from_rpc(caught.value)
    assert type(error) is kind, error
    assert match in error.message


async def until_ended(stub, number):
    revision = 0
    while True:
        request = scheduler_pb2.WaitJobRequest(job_id=number, after_revision=revision, timeout=Duration(seconds=2))
        job = (await stub.WaitJob(request)).job
        if job.state >= job_pb2.JOB_STATE_FINISHED:
            return job
        assert job.revision > revision, f"nothing changed for 2 s: {job}"
        revision = job.revision
