"""Code shipping as a process: settings and wiring."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from dpu.channel import MIB
from dpud.codeship.quota import QUOTA_MIB
from dpud.codeship.service import NAME, CodeServicer
from dpud.codeship.store_sqlite import SqliteCodeStore
from dpud.hosting.folder import owned
from dpud.hosting.metrics import DiskMetrics, showing
from dpud.hosting.server import listening, until_stopped
from dpud.hosting.settings import Environment, Listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from grpc import aio

    from dpud.codeship.store_s3 import S3CodeStore

log = structlog.get_logger(__name__)

DAY_S = 86_400.0
TIDY_S = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What code shipping is told."""

    listening: Listening
    #: Its folder, with the file that holds blobs and trees where no bucket does.
    state: Path
    #: How much code a project may have here, and after how long unused it goes.
    quota_mib: int = QUOTA_MIB
    keep_days: float = 90.0
    #: 's3://name/prefix' of the bucket that holds blobs and trees, where no folder does.
    bucket: str | None = None

    @classmethod
    def read(cls, environment: Environment) -> Settings:
        """Read DPU_STATE, DPU_CODE_QUOTA_MIB, DPU_CODE_KEEP_DAYS, DPU_CODE_BUCKET, and what all read who listen."""
        return cls(
            listening=Listening.read(environment),
            state=environment.get("DPU_STATE", Path),
            quota_mib=environment.get("DPU_CODE_QUOTA_MIB", int, QUOTA_MIB),
            keep_days=environment.get("DPU_CODE_KEEP_DAYS", float, 90.0),
            bucket=environment.get("DPU_CODE_BUCKET", _bucket, None),
        )


@asynccontextmanager
async def built(settings: Settings) -> AsyncIterator[list[tuple[str, Callable[[aio.Server], None]]]]:
    """Open the store; yield what to put on a server."""
    with owned(settings.state):
        store = opened(settings)
        tidying = asyncio.create_task(_tidy(store, settings.keep_days))
        try:
            servicer = CodeServicer(store)
            with showing(servicer.metrics), showing(DiskMetrics("codeship", settings.state)):
                yield [(NAME, servicer.add_to)]
        finally:
            tidying.cancel()
            await asyncio.gather(tidying, return_exceptions=True)
            store.close()


def opened(settings: Settings) -> SqliteCodeStore | S3CodeStore:
    """Return the store that the settings name."""
    if settings.bucket is None:
        return SqliteCodeStore(settings.state, settings.quota_mib * MIB)
    # Not everybody installs what a bucket needs.
    from dpud.codeship.store_s3 import open_bucket

    return open_bucket(settings.bucket, settings.quota_mib * MIB)


def _bucket(text: str) -> str:
    if not re.fullmatch(r"s3://[^/]+(/.*)?", text):
        raise ValueError("must be 's3://bucket' or 's3://bucket/prefix'")
    return text


async def _tidy(store: SqliteCodeStore | S3CodeStore, keep_days: float) -> None:
    """Remove what nobody has used for so long, now and then; runs until cancelled."""
    while True:
        try:
            removed = await store.remove_disused(time.time() - keep_days * DAY_S)
            if removed.trees or removed.blobs:
                log.info("disused code removed", trees=removed.trees, blobs=removed.blobs, bytes=removed.bytes)
        except Exception:
            # It serves as well with too much on its disk; next time it may succeed.
            log.exception("disused code could not be removed")
        await asyncio.sleep(TIDY_S)


async def main(environment: Environment) -> None:
    """Serve until the process is told to stop."""
    settings = Settings.read(environment)
    async with built(settings) as services, listening(settings.listening, services):
        await until_stopped()
