"""Factories of the archive's tests: frames, records, and an archive in this process."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from astropy.io import fits

from dpu_api.v1.archive_pb2 import StagedProduct, StageProductRequest
from dpu_recipes.frames import Frame
from dpud.archive.main import Settings, built
from dpud.archive.records import Attempt, Record
from dpud.archive.wire import to_frame
from dpud.hosting.database import parse_url
from dpud.hosting.server import listening
from fakes_hosting import Place, place
from fakes_instruments import write_wfi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NIGHT = date(2000, 4, 28)
DATE_OBS = datetime(2000, 4, 28, 22, 1, 3, tzinfo=UTC)
NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


FIRST = Attempt(1, 1, 1)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def a_frame(**changes: Any) -> Frame:
    values: dict[str, Any] = {
        "frame_class": "RawBiasFrame",
        "instrument": "WFI",
        "chip": "ccd50",
        "filter": "#842",
        "object": "BIAS",
        "night": NIGHT,
        "date_obs": DATE_OBS,
        "readout": "1x1",
        "creation_date": NOW,
    }
    return Frame(**values | changes)


def a_raw(number: int = 0, *, project: str = "KIDS", **changes: Any) -> Record:
    """One chip of the exposure `number` of the night, a minute after the one before."""
    chip = changes.get("chip", "ccd50")
    time = changes.pop("date_obs", DATE_OBS + timedelta(minutes=number))
    name = f"WFI.{time:%Y-%m-%dT%H:%M:%S.000}_{int(chip[-2:]) - 49}.fits"
    content = digest(f"{name}{changes}")
    frame = a_frame(
        **{"id": content, "digest": content, "size": 11520, "file_name": name, "date_obs": time}
        | {"values": {"EXPOSURE": f"r{number:03d}.fits.fz", "MEAN": 301.25}}
        | changes
    )
    return Record(frame=frame, project=project, user="jdoe", source=digest(f"exposure {number}"))


def a_product(attempt: Attempt = FIRST, number: int = 0, *, project: str = "KIDS", **changes: Any) -> Record:
    """A bias that an attempt has made."""
    identifier = digest(f"{project}{attempt}{number}")[:32]
    defaults = {
        "id": identifier,
        "frame_class": "BiasFrame",
        "file_name": f"Cal-{identifier}.fits",
        "digest": digest(f"content of {identifier}"),
        "size": 5760,
        "overscan": 6,
        "values": {"MEAN": 0.25, "NFRAMES": 5, "GOOD": True},
        "timestamp_start": DATE_OBS - timedelta(days=3.5),
        "timestamp_end": DATE_OBS + timedelta(days=3.5),
        "inputs": ("a", "b"),
        "parameters": {"SIGMA_CLIP": 3.0, "LEVELS": [1, 2]},
        "limits": {"MAXIMUM_STDEV": {"measured": 2.5, "limit": 4.0, "flag": 2}},
    }
    return Record(
        frame=a_frame(**defaults | changes),
        project=project,
        user="jdoe",
        attempt=attempt,
        number=number,
        code_digest="c0de",
        published=False,
    )


def write_bias(path: Path, second: int = 0, *, chips: int = 2) -> Path:
    """Write the raw bias of WFI that began at a second of the minute."""
    return write_wfi(path, chips=chips, DATE_OBS=f"2000-04-28T22:01:{second:02d}.000", MJD_OBS=None)


def write_quiet(path: Path, **changes: Any) -> Path:
    """Write a raw bias of two chips of WFI, of 60 kB each, whose noise is as small as that of a good chip."""
    write_wfi(path, size=(100, 100), **changes)
    with fits.open(path, mode="update") as units:
        for unit in units[1:]:
            unit.data = unit.data % 16 + 300
    return path


def settings_at(where: Place, state: Path, database: str = "") -> Settings:
    return Settings(
        listening=where.listening, state=state, instruments=None, database=parse_url(database) if database else None
    )


@asynccontextmanager
async def an_archive(state: Path, database: str = "") -> AsyncIterator[Place]:
    """Serve the archive of a folder in this process, on a socket of its own."""
    with place() as where:
        settings = settings_at(where, state, database)
        async with built(settings) as services, listening(settings.listening, services):
            yield where


def announced(record: Record, number: int = 0, **changes: Any) -> StageProductRequest:
    """The first message of a product on its way in."""
    frame = to_frame(record)
    for name in ("id", "file_name", "user", "project"):
        frame.ClearField(name)
    product = StagedProduct(frame=frame, number=number, user=record.user, project=record.project, **changes)
    return StageProductRequest(product=product)


def files_of(state: Path) -> set[str]:
    """Every file that the archive keeps, whole or not."""
    folders = (state / "files", state / "incoming")
    return {file.name for folder in folders for file in folder.rglob("*") if file.is_file()}
