"""Starts the scheduler."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dpu_api.v1 import dispatch_pb2_grpc, scheduler_pb2_grpc
from dpud.hosting.metrics import DiskMetrics, showing
from dpud.hosting.server import listening, until_stopped
from dpud.hosting.settings import Address, Environment, Listening, Peer
from dpud.scheduler import scaler, tenure
from dpud.scheduler.database import postgres_engine
from dpud.scheduler.directory import Directory
from dpud.scheduler.journal_sql import RESERVE_BYTES, SqlJournal
from dpud.scheduler.leadership import elected, leading
from dpud.scheduler.loop import Loop
from dpud.scheduler.metrics import SchedulerMetrics
from dpud.scheduler.numbers import Numbers
from dpud.scheduler.outbox import Outbox
from dpud.scheduler.peers import GrpcPeers
from dpud.scheduler.reserve_sql import TableReserve
from dpud.scheduler.service import DispatchService, Identity, SchedulerService
from dpud.scheduler.snapshooter import Snapshooter
from dpud.scheduler.standby import refusing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import sqlalchemy as sa
    from grpc import aio

    from dpud.scheduler.peers import CloseLogs

NAMES = ("dpu_api.v1.SchedulerService", "dpu_api.v1.DispatchService")

Services: TypeAlias = "list[tuple[str, Callable[[aio.Server], None]]]"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the scheduler is told."""

    name: str
    state: Path
    #: None: SQLite, in `state`.
    database: sa.Engine | None
    archive: Peer
    logs: Peer
    code: Address
    listening: Listening
    #: None: nobody asks how many workers are wanted.
    scaler: scaler.Settings | None = None

    @classmethod
    def read(cls, environment: Environment) -> Settings:
        """Read DPU_NAME, DPU_STATE, DPU_DATABASE, the addresses and the token of the others, and where to listen."""
        return cls(
            name=environment.get("DPU_NAME", str),
            state=environment.get("DPU_STATE", Path),
            database=environment.get("DPU_DATABASE", postgres_engine, None),
            archive=Peer.read(environment, "DPU_ARCHIVE"),
            logs=Peer.read(environment, "DPU_LOGS"),
            code=environment.get("DPU_CODE", Address.parse),
            listening=Listening.read(environment),
            scaler=scaler.Settings.read(environment),
        )


@asynccontextmanager
async def built(settings: Settings, close_logs: CloseLogs | None = None) -> AsyncIterator[Services]:
    """Open the journal in a file, replay it, start the loop and the outbox; yield the services.

    `close_logs` is the method of a log service in this process.
    """
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        closing(SqlJournal.open_file(settings.state / "journal.sqlite")) as journal,
        showing(DiskMetrics("scheduler", settings.state)),
    ):
        async with _served(journal, settings, close_logs) as services:
            yield services


@asynccontextmanager
async def _served(
    journal: SqlJournal, settings: Settings, close_logs: CloseLogs | None = None
) -> AsyncIterator[Services]:
    identity = Identity(settings.name, settings.archive.address.text, settings.logs.address.text, settings.code.text)
    peers = GrpcPeers(settings.archive, settings.logs, close_logs)
    try:
        async with running(journal, peers, identity, settings.scaler) as services:
            yield services
    finally:
        await peers.close()


@asynccontextmanager
async def running(
    journal: SqlJournal, peers: GrpcPeers, identity: Identity, asked: scaler.Settings | None = None
) -> AsyncIterator[Services]:
    """Run the loop and the outbox within the block; what one of them raises ends the block. Yield the services.

    Where `asked` says, KEDA is answered too.
    """
    # Beside this thread, where a leader goes on to renew: a long journal takes a while.
    loop = await asyncio.to_thread(Loop, journal, logs_here=peers.logs_here)
    numbers = Numbers(loop, peers.highest_job)
    scheduler = SchedulerService(loop, Directory(loop.state, journal), identity, numbers, peers.traces)
    dispatch = DispatchService(loop, peers.traces)
    async with asyncio.TaskGroup() as group:
        background = (loop, Outbox(loop, peers), Snapshooter(loop, journal))
        tasks = [group.create_task(runner.run()) for runner in background]
        try:
            adding: list[Callable[[aio.Server], None]] = [
                lambda server: scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(scheduler, server),
                lambda server: dispatch_pb2_grpc.add_DispatchServiceServicer_to_server(dispatch, server),
            ]
            with showing(SchedulerMetrics(loop, lambda: dispatch.stale_reports)):
                async with scaler.answering(asked, loop):
                    yield list(zip(NAMES, adding, strict=True))
        finally:
            for task in tasks:
                task.cancel()


async def main(environment: Environment) -> None:
    """Serve until SIGTERM or SIGINT; on a shared database, as soon as no other scheduler leads."""
    settings = Settings.read(environment)
    if settings.database is None:
        async with built(settings) as services, listening(settings.listening, services):
            await until_stopped()
        return
    reserve = TableReserve(settings.database, RESERVE_BYTES)
    with closing(SqlJournal(settings.database, reserve)) as journal, tenure.held(settings.state, journal.url) as own:
        stopped = asyncio.create_task(until_stopped())
        if await _elected(journal, own, settings, stopped):
            async with (
                leading(journal),
                _served(journal, settings) as services,
                listening(settings.listening, services),
            ):
                await stopped


async def _elected(journal: SqlJournal, own: tenure.Tenure, settings: Settings, stopped: asyncio.Task[None]) -> bool:
    """Stand by; return whether this scheduler is to lead, and was not stopped before."""
    async with listening(settings.listening, refusing(NAMES), serving=False):
        election = asyncio.create_task(elected(journal, own.last))
        await asyncio.wait([election, stopped], return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            election.cancel()
            return False
        await election
        own.note(journal.epoch)
        return True
