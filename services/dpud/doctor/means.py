"""Where a service keeps what it must not lose: its database, its bucket, its folder of packed files."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from dpud.doctor.finding import Finding
from dpud.doctor.machine import unwritable
from dpud.hosting.database import SQLITE, parse_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpud.doctor.finding import Patient

#: The SQLite file of each service that has one, unless DPU_DATABASE names another database.
FILES = {"scheduler": "journal.sqlite", "archive": "catalogue.sqlite"}
#: What names the bucket, or the further folder, of each service that may have one.
PLACES = {"codeship": ("DPU_CODE_BUCKET",), "logs": ("DPU_LOG_BUCKET",), "archive": ("DPU_FILES", "DPU_COLD_FILES")}

#: How long a database's server is waited for, seconds.
ANSWER_S = 5


def _database(patient: Patient) -> Iterator[Finding]:
    url = patient.environment.get("DPU_DATABASE", parse_url, None)
    if url is not None and url.get_backend_name() != SQLITE:
        yield _server(url)
        return
    file = Path(url.database or "") if url is not None else _file(patient)
    if file is not None and file.is_file():
        yield _sqlite(file)


def _file(patient: Patient) -> Path | None:
    name = FILES.get(patient.service)
    return patient.state / name if patient.state and name else None


def _server(url: sa.URL) -> Finding:
    try:
        # No connection is kept: whoever looks holds nothing.
        engine = sa.create_engine(url, poolclass=sa.pool.NullPool, connect_args={"connect_timeout": ANSWER_S})
    except ImportError as error:
        return Finding(good=False, text=f"DPU_DATABASE: {error}: pip install 'dpu[postgres]'")
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    except sa.exc.SQLAlchemyError as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        return Finding(good=False, text=f"DPU_DATABASE: no answer: {said}: start it, or mend the URL")
    return Finding(good=True, text="DPU_DATABASE answers")


def _sqlite(file: Path) -> Finding:
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        said = str(error)
    if said == "ok":
        return Finding(good=True, text=f"{file} is whole")
    return Finding(good=False, text=f"{file} is damaged: {said}: restore it (docs/how-to/backup.md)")


def _places(patient: Patient) -> Iterator[Finding]:
    for key in PLACES.get(patient.service, ()):
        if place := patient.environment.get(key, str, ""):
            yield _s3(key, place) if place.startswith("s3://") else _files(key, Path(place))


def _files(key: str, folder: Path) -> Finding:
    why = unwritable(key, folder)
    return Finding(good=not why, text=why or f"{key}: {folder} can be written")


def _s3(key: str, url: str) -> Finding:
    """Look for an object, and for no more than the first ones."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ImportError as error:
        return Finding(good=False, text=f"{key}={url!r}: {error}: pip install 'dpu[s3]'")
    try:
        next(iter(S3Store.from_url(url, retry_config={"max_retries": 1}).list()), None)
    except (BaseError, FileNotFoundError) as error:
        said = str(error).splitlines()[0]
        return Finding(good=False, text=f"{key}={url!r}: {said}: make the bucket, or mend the URL or AWS_*")
    return Finding(good=True, text=f"{key}: {url} answers, and takes these credentials")


LOOKS = (_database, _places)
