"""Starts the archive: settings, wiring, and what runs beside the calls."""

from __future__ import annotations

import asyncio
import fcntl
import re
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
from dpud.archive.corrections import Corrections
from dpud.archive.database import parse_url
from dpud.archive.holdings import Holdings
from dpud.archive.ingest import Intake
from dpud.archive.pairing import FolderLabel, Label, pair
from dpud.archive.pictures import Pictures
from dpud.archive.products import Products
from dpud.archive.reception import Reception
from dpud.archive.service import ArchiveService
from dpud.archive.splitter import Splitter
from dpud.archive.store_files import FolderStore
from dpud.hosting.metrics import DiskMetrics, showing
from dpud.hosting.server import listening, until_stopped
from dpud.hosting.settings import BadSetting, Environment, Listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from grpc import aio
    from sqlalchemy import URL

    from dpu_recipes.instruments import Instruments
    from dpud.archive.store import Store

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

    @classmethod
    def read(cls, environment: Environment) -> Self:
        """Read DPU_STATE, DPU_INSTRUMENTS, DPU_DATABASE and DPU_FILES, and what every service that listens is told."""
        return cls(
            listening=Listening.read(environment),
            state=environment.get("DPU_STATE", Path),
            instruments=environment.get("DPU_INSTRUMENTS", Path, None),
            database=environment.get("DPU_DATABASE", parse_url, None),
            files=environment.get("DPU_FILES", _bucket, ""),
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
        store, label = _files(settings)
        reception = Reception(settings.state / "incoming")
        catalogue = _opened(settings)
        holdings = Holdings(store, catalogue)
        try:
            pair(catalogue, store, label, lambda: uuid4().hex)
            await holdings.sweep()
            await splitter.start()
            service, products = _service(instruments, catalogue, holdings, splitter, reception)
            async with asyncio.TaskGroup() as group:
                expiring = group.create_task(products.expire_for_ever())
                with showing(service.metrics), showing(DiskMetrics("archive", settings.state)):
                    yield [(NAME, lambda server: add_ArchiveServiceServicer_to_server(service, server))]
                expiring.cancel()
        finally:
            await splitter.close()
            catalogue.close()


def _service(
    instruments: Instruments,
    catalogue: SqlCatalogue,
    holdings: Holdings,
    splitter: Splitter,
    reception: Reception,
) -> tuple[ArchiveService, Products]:
    """Return what answers calls, and the way of products in it."""
    products = Products(
        ledger=catalogue,
        memory=catalogue,
        holdings=holdings,
        reception=reception,
        clock=_now,
        new_id=lambda: uuid4().hex,
    )
    intake = Intake(
        catalogue=catalogue,
        ledger=catalogue,
        holdings=holdings,
        splitter=splitter,
        reception=reception,
        clock=_now,
    )
    service = ArchiveService(
        instruments=instruments,
        catalogue=catalogue,
        lineages=catalogue,
        store=holdings.store,
        intake=intake,
        products=products,
        pictures=Pictures(holdings.store, splitter, reception),
        corrections=Corrections(amendments=catalogue, holdings=holdings),
    )
    return service, products


async def main(environment: Environment) -> None:
    """Serve the archive until SIGTERM or SIGINT."""
    settings = Settings.read(environment)
    async with built(settings) as services, listening(settings.listening, services):
        await until_stopped()


def _opened(settings: Settings) -> SqlCatalogue:
    if settings.database is None:
        return SqlCatalogue.on_file(settings.state / "catalogue.sqlite")
    return SqlCatalogue(settings.database)


def _files(settings: Settings) -> tuple[Store, Label]:
    """Return where the files are, and what is written beside them. Raises Unreachable and BadSetting."""
    if not settings.files:
        return FolderStore(settings.state / "files"), FolderLabel(settings.state)
    try:
        from dpud.archive.store_s3 import open_bucket
    except ImportError as error:
        raise BadSetting(f"DPU_FILES={settings.files!r}: {error}: install it with pip install 'dpu[s3]'") from error
    return open_bucket(settings.files)


def _bucket(text: str) -> str:
    if not re.fullmatch(r"s3://[^/]+(/.*)?", text):
        raise ValueError("must be 's3://bucket' or 's3://bucket/prefix'")
    return text


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
