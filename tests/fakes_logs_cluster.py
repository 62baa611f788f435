"""Log service and workers as processes of their own, and followers that never give up."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from grpc import RpcError, StatusCode

from dpu.channel import open_async_channel
from dpu_api.v1.job_pb2 import JOB_STATE_FINISHED, TASK_STATE_SUCCEEDED, TaskRef
from dpu_api.v1.logs_pb2 import CloseJobRequest, CloseTaskRequest, JobEnd, ReadRequest, TaskEnd
from dpu_api.v1.logs_pb2_grpc import LogServiceStub
from dpud.hosting.tokens import token_row
from fakes_programs import patiently
from fakes_worker import PROJECT, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JOB = 7
USERS, OUTBOX = "user-secret", "outbox-secret"


class Program:
    """One `dpud SERVICE`, which can be killed and started again on the same folder."""

    def __init__(self, service: str, environment: dict[str, str], log: Path) -> None:
        self._command = [sys.executable, "-m", "dpud", service]
        self._environment = {"PATH": os.environ["PATH"], **environment}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid


@dataclass
class House:
    """A log service in a folder, and who is let in."""

    folder: Path
    logs: Program = field(init=False)

    def __post_init__(self) -> None:
        (self.folder / "callers.toml").write_text(
            token_row(SECRET, "worker", ["*"], ["worker"])
            + token_row(USERS, "anna", [PROJECT], ["user"])
            + token_row(OUTBOX, "outbox", ["*"], ["service"])
        )
        (self.folder / "worker.token").write_text(SECRET)
        environment = {
            "DPU_LISTEN": self.address,
            "DPU_TOKENS_FILE": str(self.folder / "callers.toml"),
            "DPU_STATE": str(self.folder / "logs"),
        }
        self.logs = Program("logs", environment, self.folder / "logs.txt")

    @property
    def socket(self) -> Path:
        return self.folder / "logs.sock"

    @property
    def address(self) -> str:
        return f"unix:{self.socket}"

    def worker(self, others: str, logs: str, slots: int) -> Program:
        """Return a worker whose scheduler, code and archive are at `others`."""
        environment = {
            "DPU_SCHEDULER": others,
            "DPU_CODE": others,
            "DPU_ARCHIVE": others,
            "DPU_LOGS": logs,
            "DPU_TOKEN_FILE": str(self.folder / "worker.token"),
            "DPU_STATE": str(self.folder / "worker"),
            "DPU_WORKER_NAME": "anvil",
            "DPU_WORKER_SLOTS": str(slots),
            "DPU_WORKER_MEMORY_MIB": "4096",
        }
        return Program("worker", environment, self.folder / "worker.txt")

    async def close(self, lines: dict[tuple[int, int], int], patience_s: int = 30) -> None:
        """Close the attempts, by (task, attempt) and how many lines they wrote, and the job; insist, as outboxes do."""
        async with open_async_channel(self.address, OUTBOX) as channel:
            stub = LogServiceStub(channel)
            for (task, attempt), count in lines.items():
                closing = CloseTaskRequest(
                    ref=TaskRef(job_id=JOB, task=task, attempt=attempt),
                    project=PROJECT,
                    state=TASK_STATE_SUCCEEDED,
                    lines=count,
                    patience=Duration(seconds=patience_s),
                )
                await patiently(partial(stub.CloseTask, closing, wait_for_ready=True))
            closed = CloseJobRequest(job_id=JOB, project=PROJECT, state=JOB_STATE_FINISHED)
            await patiently(partial(stub.CloseJob, closed, wait_for_ready=True))


@contextmanager
def started(*programs: Program) -> Iterator[None]:
    """Run programs until the block ends."""
    try:
        for program in programs:
            program.start()
        yield
    finally:
        for program in programs:
            program.kill()


@dataclass
class Follower:
    """Reads to the end, resuming by offset after each break."""

    address: str
    lines: dict[tuple[int, int], list[str]] = field(default_factory=lambda: defaultdict(list))
    ends: dict[tuple[int, int], TaskEnd] = field(default_factory=dict)
    count: int = 0
    breaks: int = 0

    async def run(self) -> JobEnd:
        """Return the end of the job."""
        offset = 0
        while True:
            try:
                async with open_async_channel(self.address, USERS, PROJECT) as channel:
                    asked = ReadRequest(job_id=JOB, follow=True, offset=offset)
                    async for response in LogServiceStub(channel).Read(asked, wait_for_ready=True):
                        offset = response.offset
                        match response.WhichOneof("item"):
                            case "batch":
                                ref = response.batch.ref
                                self.lines[ref.task, ref.attempt] += response.batch.texts
                                self.count += len(response.batch.texts)
                            case "task_end":
                                self.ends[response.task_end.ref.task, response.task_end.ref.attempt] = response.task_end
                            case "end":
                                return response.end
            except RpcError as error:
                # Anything else than a broken connection is a fault.
                if error.code() is not StatusCode.UNAVAILABLE:
                    raise
                self.breaks += 1
                await asyncio.sleep(0.01)
