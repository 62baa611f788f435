"""The log aggregator as a process: settings and wiring."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL

from dpud.hosting.database import SQLITE, parse_url
from dpud.hosting.folder import owned
from dpud.hosting.metrics import DiskMetrics, showing
from dpud.hosting.server import listening, until_stopped
from dpud.hosting.settings import Environment, Listening
from dpud.logs.aggregator import Aggregator
from dpud.logs.index import Index, engine_of
from dpud.logs.retention import Retention, keep_tidy
from dpud.logs.service import NAME, LogServicer
from dpud.logs.store_files import FileLogStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from grpc import aio

    from dpud.logs.store_s3 import S3LogStore


@dataclass(frozen=True, slots=True)
class Settings:
    """What the log aggregator is told."""

    listening: Listening
    #: The folder that holds the logs.
    state: Path
    retention: Retention
    #: 's3://name/prefix' of the bucket that holds the lines, where no folder does, and the database of its index.
    bucket: str | None = None
    database: URL | None = None

    @classmethod
    def read(cls, environment: Environment) -> Settings:
        """Read DPU_STATE, DPU_LOG_DAYS(_FAILED), DPU_LOG_BUCKET, DPU_DATABASE, and what everybody reads who listens."""
        days = environment.get("DPU_LOG_DAYS", _days, 90.0)
        return cls(
            listening=Listening.read(environment),
            state=environment.get("DPU_STATE", Path),
            retention=Retention(days, environment.get("DPU_LOG_DAYS_FAILED", _days, days)),
            bucket=environment.get("DPU_LOG_BUCKET", _bucket, None),
            database=environment.get("DPU_DATABASE", parse_url, None),
        )


@asynccontextmanager
async def built(settings: Settings) -> AsyncIterator[list[tuple[str, Callable[[aio.Server], None]]]]:
    """Open the store and start what runs in the background; yield what to put on a server."""
    with owned(settings.state):
        store = opened(settings)
        aggregator = Aggregator(store, lambda: time.time_ns() // 1000)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(aggregator.run()),
                    group.create_task(keep_tidy(aggregator, settings.retention, time.time)),
                ]
                servicer = LogServicer(aggregator)
                with showing(servicer.metrics), showing(DiskMetrics("logs", settings.state)):
                    yield [(NAME, servicer.add_to)]
                for task in tasks:
                    task.cancel()
        finally:
            store.close()


def opened(settings: Settings) -> FileLogStore | S3LogStore:
    """Return the store that the settings name. Raises BadSetting."""
    if settings.bucket is None:
        return FileLogStore(settings.state / "jobs")
    # Not everybody installs what a bucket needs.
    from dpud.logs.store_s3 import open_bucket

    beside = URL.create(SQLITE, database=str(settings.state / "index.sqlite"))
    index = Index(engine_of(settings.database or beside))
    return open_bucket(settings.bucket, index)


async def main(environment: Environment) -> None:
    """Serve until the process is told to stop."""
    settings = Settings.read(environment)
    async with built(settings) as services, listening(settings.listening, services):
        await until_stopped()


def _days(text: str) -> float:
    days = float(text)
    if days <= 0:
        raise ValueError("must be a number of days above 0")
    return days


def _bucket(text: str) -> str:
    if not re.fullmatch(r"s3://[^/]+(/.*)?", text):
        raise ValueError("must be 's3://bucket' or 's3://bucket/prefix'")
    return text
