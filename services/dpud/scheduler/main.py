"""Starts the scheduler."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dpu_api.v1 import dispatch_pb2_grpc, scheduler_pb2_grpc
from dpud.hosting.server import listening, until_stopped
from dpud.hosting.settings import Address, Environment, Listening, Peer
from dpud.scheduler.directory import Directory
from dpud.scheduler.journal_sql import SqlJournal
from dpud.scheduler.loop import Loop
from dpud.scheduler.outbox import Outbox
from dpud.scheduler.peers import GrpcPeers
from dpud.scheduler.service import DispatchService, Identity, SchedulerService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from grpc import aio

    from dpud.scheduler.journal import Journal
    from dpud.scheduler.outbox import Peers

Services: TypeAlias = "list[tuple[str, Callable[[aio.Server], None]]]"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the scheduler is told."""

    name: str
    state: Path
    archive: Peer
    logs: Peer
    code: Address
    listening: Listening

    @classmethod
    def read(cls, environment: Environment) -> Settings:
        """Read DPU_NAME, DPU_STATE, DPU_ARCHIVE, DPU_LOGS, DPU_CODE, DPU_TOKEN_FILE and where to listen."""
        return cls(
            name=environment.get("DPU_NAME", str),
            state=environment.get("DPU_STATE", Path),
            archive=Peer.read(environment, "DPU_ARCHIVE"),
            logs=Peer.read(environment, "DPU_LOGS"),
            code=environment.get("DPU_CODE", Address.parse),
            listening=Listening.read(environment),
        )


@asynccontextmanager
async def built(settings: Settings) -> AsyncIterator[Services]:
    """Open the journal, replay it, start the loop and the outbox; yield the services."""
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    identity = Identity(settings.name, settings.archive.address.text, settings.logs.address.text, settings.code.text)
    peers = GrpcPeers(settings.archive, settings.logs)
    try:
        with closing(SqlJournal.open_file(settings.state / "journal.sqlite")) as journal:
            async with running(journal, peers, identity) as services:
                yield services
    finally:
        await peers.close()


@asynccontextmanager
async def running(journal: Journal, peers: Peers, identity: Identity) -> AsyncIterator[Services]:
    """Run the loop and the outbox within the block; what one of them raises ends the block. Yield the services."""
    loop = Loop(journal)
    scheduler = SchedulerService(loop, Directory(loop.state, journal), identity)
    dispatch = DispatchService(loop)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop.run()), group.create_task(Outbox(loop, peers).run())]
        try:
            yield [
                (
                    "dpu_api.v1.SchedulerService",
                    lambda server: scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(scheduler, server),
                ),
                (
                    "dpu_api.v1.DispatchService",
                    lambda server: dispatch_pb2_grpc.add_DispatchServiceServicer_to_server(dispatch, server),
                ),
            ]
        finally:
            for task in tasks:
                task.cancel()


async def main(environment: Environment) -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = Settings.read(environment)
    async with built(settings) as services, listening(settings.listening, services):
        await until_stopped()
