"""Nights of a camera of eight chips, as a catalogue is told of them."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dpu_recipes.frames import Frame
from dpud.archive.records import Attempt, Record
from dpud.archive.rows import rows_of
from dpud.archive.schema import FRAMES, LINKS, NAMES, OBJECTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpud.archive.catalogue_sql import SqlCatalogue

CHIPS = 8
#: Exposures of a night.
BIASES, SCIENCE = 10, 60
CALIBRATIONS = ("ReadNoise", "BiasFrame", "HotPixelMap", "DomeFlatFrame", "MasterFlatFrame")
NIGHT = date(2000, 4, 28)
DUSK = datetime(2000, 4, 28, 22, tzinfo=UTC)
#: So many nights are told; the others are copies that the database makes of them, each later than the one before.
TOLD = 8


def name_of(frame_class: str, night: int, chip: int, exposure: int = 0) -> str:
    """Return the identifier of a frame, as long as a digest."""
    copy, of = divmod(night, TOLD)
    return hashlib.sha256(f"{frame_class} {of} {chip} {exposure}".encode()).hexdigest() + f"/{copy}"


def object_of(night: int, chip: int, number: int | str) -> str:
    """Return the name of one of the ten objects of a night and a chip; number '?' means all."""
    copy, of = divmod(night, TOLD)
    return f"CDF{chip}_{of}_{number}/{copy}"


def night_of(number: int) -> Iterator[Record]:
    """Give the frames of a night: raw ones, calibrations, and what was reduced with them."""
    task = 0
    for chip in range(CHIPS):
        for exposure in range(BIASES + SCIENCE):
            yield _record("RawBiasFrame" if exposure < BIASES else "RawScienceFrame", number, chip, exposure)
        for frame_class in CALIBRATIONS:
            task += 1
            yield _record(frame_class, number, chip, 0, Attempt(number + 1, task, 1))
        for exposure in range(BIASES, BIASES + SCIENCE):
            task += 1
            yield _record("ReducedScienceFrame", number, chip, exposure, Attempt(number + 1, task, 1))


def grow(catalogue: SqlCatalogue, size: int) -> int:
    """Bring a catalogue to at least `size` frames, and return how many nights it knows."""
    database = catalogue._database
    told = [record for night in range(TOLD) for record in night_of(night)]
    copies = -(-size // len(told))
    with database.writing() as connection:
        there = connection.scalar(sa.select(sa.func.count()).select_from(FRAMES)) or 0
        if not there:
            rows = rows_of(told, {})
            connection.execute(sa.insert(FRAMES), rows.frames)
            connection.execute(sa.insert(NAMES), rows.names)
            connection.execute(sa.insert(LINKS), rows.links)
            connection.execute(sa.insert(OBJECTS), rows.objects)
        if numbers := range(max(there // len(told), 1), copies):
            with _without_indexes(connection):
                _copy(connection, numbers, len(told))
    with database.writing() as connection:
        connection.execute(sa.text("ANALYZE"))
    return copies * TOLD


@contextmanager
def _without_indexes(connection: sa.Connection) -> Iterator[None]:
    """Take the indexes away, and make them again when all rows are there: that takes a fraction of the time."""
    indexes = [index for table in (FRAMES, NAMES, LINKS) for index in table.indexes]
    for index in indexes:
        index.drop(connection)
    yield
    for index in indexes:
        index.create(connection)


def _copy(connection: sa.Connection, numbers: range, told: int) -> None:
    """Copy the nights that were told, the first rows of the table, once for each number; keys come in their order."""
    copies = sa.table("copies", sa.column("number", sa.Integer))
    connection.execute(sa.text("CREATE TEMPORARY TABLE copies (number INTEGER)"))
    connection.execute(sa.insert(copies), [{"number": number} for number in numbers])
    frames, days = FRAMES.c, copies.c.number * TOLD
    suffix = sa.literal("/") + sa.cast(copies.c.number, sa.Text)
    sqlite = connection.dialect.name == "sqlite"
    changed: dict[str, Any] = {
        "night": sa.func.date(frames.night, sa.cast(days, sa.Text) + " days") if sqlite else frames.night + days,
        "job": frames.job + days,
        "inputs": sa.func.replace(sa.type_coerce(frames.inputs, sa.Text), '/0"', suffix + '"'),
    }
    step = sa.cast(days, sa.BigInteger) * 86_400_000_000
    changed |= {name: sa.type_coerce(frames[name], sa.BigInteger) + step for name in _TIMES}
    changed |= {name: sa.func.replace(frames[name], "/0", suffix) for name in _NAMED}
    columns = [column for column in FRAMES.columns if column.name != "sequence"]
    copied = sa.select(*(changed.get(column.name, column) for column in columns)).join(copies, frames.sequence <= told)
    connection.execute(sa.insert(FRAMES).from_select(columns, copied.order_by(copies.c.number, frames.sequence)))
    _copy_named(connection, NAMES, ("name", "id"), copies)
    _copy_named(connection, LINKS, ("product", "input"), copies)
    _copy_named(connection, OBJECTS, ("object",), copies)
    connection.execute(sa.text("DROP TABLE copies"))


def _copy_named(connection: sa.Connection, table: sa.Table, named: tuple[str, ...], copies: sa.TableClause) -> None:
    """Copy the rows of a table that tell of the first nights' frames."""
    suffix = sa.literal("/") + sa.cast(copies.c.number, sa.Text)
    changed = {name: sa.func.replace(table.c[name], "/0", suffix) for name in named}
    columns = [changed.get(column.name, column) for column in table.columns]
    told = sa.and_(*(table.c[name].like("%/0") for name in named))
    copied = sa.select(*columns).join(copies, told).order_by(*columns[:3])
    connection.execute(sa.insert(table).from_select(list(table.columns), copied))


_TIMES = ("date_obs", "timestamp_start", "timestamp_end")
_NAMED = ("id", "digest", "identity", "file_name", "object")


def _record(frame_class: str, night: int, chip: int, exposure: int, attempt: Attempt | None = None) -> Record:
    name = name_of(frame_class, night, chip, exposure)
    time = DUSK + timedelta(days=night, minutes=exposure)
    used = [exposure] if frame_class == "ReducedScienceFrame" else list(range(BIASES))
    raw = "RawScienceFrame" if frame_class == "ReducedScienceFrame" else "RawBiasFrame"
    frame = Frame(
        id=name,
        frame_class=frame_class,
        instrument="WFI",
        chip=f"ccd{50 + chip}",
        filter="#842",
        object="BIAS" if "Bias" in frame_class else object_of(night, chip, exposure % 10),
        night=NIGHT + timedelta(days=night),
        date_obs=time,
        readout="1x1",
        file_name=name,
        digest=name,
        values={"MEAN": 301.25, "STDEV": 4.5, "EXPOSURE": f"r{night}-{exposure}.fits"},
        timestamp_start=time - timedelta(days=3.5),
        timestamp_end=time + timedelta(days=3.5),
        inputs=tuple(name_of(raw, night, chip, number) for number in used) if attempt else (),
        identity=f"identity of {name}" if attempt else "",
    )
    return Record(frame=frame, project="KIDS", user="jdoe", attempt=attempt)
