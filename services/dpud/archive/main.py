"""Starts the archive: settings, wiring, and what runs beside the calls."""

from __future__ import annotations

import asyncio
import fcntl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self
from uuid import uuid4

from dpu_api.v1.archive_pb2_grpc import add_ArchiveServiceServicer_to_server
from dpu_recipes.instrument import InstrumentError
from dpu_recipes.instruments import load
from dpud.archive.catalogue_sql import SqlCatalogue
from dpud.archive.chores import attempt, repeat
from dpud.archive.coldlist_sql import SqlColdList
from dpud.archive.corrections import Corrections
from dpud.archive.holdings import Holdings
from dpud.archive.ingest import Intake
from dpud.archive.pairing import pair, pair_cold
from dpud.archive.pictures import Pictures
from dpud.archive.places import cold_place, parse_bucket, parse_cold, warm_place
from dpud.archive.products import SWEEP_EVERY_S, Products
from dpud.archive.reception import Reception
from dpud.archive.seldom import Seeker
from dpud.archive.service import ArchiveService
from dpud.archive.splitter import Splitter
from dpud.archive.tiers import COUNT_EVERY_S, Tiers
from dpud.archive.usage import SAVE_EVERY_S, Usage
from dpud.hosting.database import parse_url
from dpud.hosting.metrics import DiskMetrics, showing
from dpud.hosting.server import listening, until_stopped
from dpud.hosting.settings import BadSetting, Environment, Listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from grpc import aio
    from sqlalchemy import URL

    from dpu_recipes.instruments import Instruments

NAME = "dpu_api.v1.ArchiveService"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the archive is told."""

    listening: Listening
    #: Its own folder: catalogue, files, and bytes on their way in.
    state: Path
    #: A folder of further instruments.
    instruments: Path | None
    #: The catalogue's database; None: a SQLite file in `state`.
    database: URL | None = None
    #: 's3://name/prefix' of the bucket that holds the files; '': `state` does.
    files: str = ""
    #: The folder or the bucket of the cold tier; '': beside the files.
    cold: str = ""

    @classmethod
    def read(cls, environment: Environment) -> Self:
        """Read DPU_STATE, DPU_INSTRUMENTS, DPU_DATABASE, DPU_FILES, DPU_COLD_FILES, and what every service is told."""
        return cls(
            listening=Listening.read(environment),
            state=environment.get("DPU_STATE", Path),
            instruments=environment.get("DPU_INSTRUMENTS", Path, None),
            database=environment.get("DPU_DATABASE", parse_url, None),
            files=environment.get("DPU_FILES", parse_bucket, ""),
            cold=environment.get("DPU_COLD_FILES", parse_cold, ""),
        )


@asynccontextmanager
async def built(settings: Settings) -> AsyncIterator[list[tuple[str, Callable[[aio.Server], None]]]]:
    """Open the stores, remove what a killed process left, and give what adds the service to a server."""
    try:
        instruments = load(settings.instruments)
    except InstrumentError as error:
        raise BadSetting(f"DPU_INSTRUMENTS={str(settings.instruments or '')!r}: {error}") from error
    splitter = Splitter.of(settings.instruments)
    with _locked(settings.state):
        store, label = warm_place(settings.state, settings.files)
        cold, cold_label = cold_place(settings.state, settings.files, settings.cold)
        reception = Reception(settings.state / "incoming")
        catalogue = _opened(settings)
        cold_list = SqlColdList(catalogue.database)
        try:
            pair(catalogue, store, label, lambda: uuid4().hex)
            pair_cold(catalogue.mark(), cold_list, cold, cold_label)
            holdings = Holdings(store, catalogue, cold=cold, cold_list=cold_list)
            await holdings.sweep()
            await splitter.start()
            tiers = Tiers(
                catalogue=catalogue,
                holdings=holdings,
                splitter=splitter,
                reception=reception,
                seeker=Seeker(catalogue, cold_list, cold_list),
                usage=Usage(cold_list, _now),
            )
            service, products = _service(instruments, catalogue, tiers)
            async with _doing(products, tiers, service):
                with showing(service.metrics), showing(DiskMetrics("archive", settings.state)):
                    yield [(NAME, lambda server: add_ArchiveServiceServicer_to_server(service, server))]
        finally:
            await splitter.close()
            catalogue.close()


def _service(instruments: Instruments, catalogue: SqlCatalogue, tiers: Tiers) -> tuple[ArchiveService, Products]:
    """Return what answers calls, and the way of products in it."""
    products = Products(
        ledger=catalogue,
        memory=catalogue,
        holdings=tiers.holdings,
        reception=tiers.reception,
        clock=_now,
        new_id=lambda: uuid4().hex,
    )
    intake = Intake(
        catalogue=catalogue,
        ledger=catalogue,
        holdings=tiers.holdings,
        splitter=tiers.splitter,
        reception=tiers.reception,
        clock=_now,
    )
    service = ArchiveService(
        instruments=instruments,
        catalogue=catalogue,
        lineages=catalogue,
        tiers=tiers,
        intake=intake,
        products=products,
        pictures=Pictures(tiers, tiers.splitter, tiers.reception),
        corrections=Corrections(amendments=catalogue, holdings=tiers.holdings),
    )
    return service, products


@asynccontextmanager
async def _doing(products: Products, tiers: Tiers, service: ArchiveService) -> AsyncIterator[None]:
    """Do what is to be done beside calls, until the block ends."""
    chores = {
        products.expire: SWEEP_EVERY_S,
        tiers.usage.save: SAVE_EVERY_S,
        service.count_tiers: COUNT_EVERY_S,
    }
    async with asyncio.TaskGroup() as group:
        doing = [group.create_task(repeat(chore, every_s)) for chore, every_s in chores.items()]
        yield
        for task in doing:
            task.cancel()
    await attempt(tiers.usage.save)


async def main(environment: Environment) -> None:
    """Serve the archive until SIGTERM or SIGINT."""
    settings = Settings.read(environment)
    async with built(settings) as services, listening(settings.listening, services):
        await until_stopped()


def _opened(settings: Settings) -> SqlCatalogue:
    if settings.database is None:
        return SqlCatalogue.on_file(settings.state / "catalogue.sqlite")
    return SqlCatalogue(settings.database)


def _locked(state: Path) -> IO[str]:
    """Hold the state's folder until the file is closed: two archives would take each other's files for orphans."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = (state / "lock").open("w")
    except OSError as error:
        raise BadSetting(f"DPU_STATE={str(state)!r}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise BadSetting(f"DPU_STATE={str(state)!r}: another archive works there") from error
    return lock


def _now() -> datetime:
    return datetime.now(tz=UTC)
