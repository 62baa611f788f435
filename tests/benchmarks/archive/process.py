"""An archive in a process of its own, as a deployment has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import grpc

from dpu.channel import open_channel
from dpu_api.v1.archive_pb2 import IngestFile, IngestRequest
from dpu_api.v1.archive_pb2_grpc import ArchiveServiceStub
from dpud.hosting.settings import Address, Peer
from dpud.hosting.tokens import token_row

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = "default"


class Running(NamedTuple):
    """An archive that answers."""

    stub: ArchiveServiceStub
    #: Where it is, and the token, for other callers.
    peer: Peer


@contextmanager
def running(state: Path) -> Iterator[Running]:
    """Give an archive over the folder `state`, warm; it and the folder go with the block."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "tokens").write_text(token_row("secret", "bench", ["*"], ["user", "worker"]))
        address = f"unix:{home}/socket"
        settings = {"DPU_LISTEN": address, "DPU_TOKENS_FILE": str(home / "tokens"), "DPU_STATE": str(state)}
        command = [sys.executable, "-m", "dpud", "archive"]
        process = subprocess.Popen(command, env={**os.environ, **settings}, stderr=subprocess.DEVNULL)
        try:
            with open_channel(address, "secret", PROJECT) as channel:
                grpc.channel_ready_future(channel).result(60)
                yield Running(ArchiveServiceStub(channel), Peer(Address.parse(address), "secret"))
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(state, ignore_errors=True)


def named(file: Path) -> IngestRequest:
    """Return the message that says which file is to be read in place."""
    return IngestRequest(file=IngestFile(name=file.name, path=str(file)))
