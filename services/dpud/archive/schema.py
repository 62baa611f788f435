"""The tables of the catalogue, as the newest migration leaves them; and how they are brought there."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Date,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    inspect,
    text,
)
from sqlalchemy.types import TypeDecorator

from dpu.errors import VersionMismatch
from dpud.archive.records import microseconds
from dpud.hosting import database
from dpud.hosting.database import NewerTables

if TYPE_CHECKING:
    from collections.abc import Callable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Instant(TypeDecorator[datetime]):
    """A UTC time as whole microseconds since 1970: exact, and in the same order on every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 (its interface)
        """Return what is stored."""
        return None if value is None else microseconds(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[int | None], datetime | None]:  # noqa: ARG002 (its interface)
        """Return what makes a time of what is stored: called for every row, so nothing is put around it."""
        return lambda value: None if value is None else _EPOCH + timedelta(microseconds=value)


class Json(TypeDecorator[Any]):
    """Plain values as JSON text. Python's own dialect of it, because a measured value may be NaN."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any | None, dialect: Dialect) -> str:  # noqa: ARG002 (its interface)
        """Return what is stored."""
        return json.dumps(value, separators=(",", ":"))

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[str | None], Any]:  # noqa: ARG002 (its interface)
        """Return what makes values of what is stored: called for every row, so nothing is put around it."""
        return _values


def _values(text: str | None) -> Any:
    if text == "{}":
        return {}
    return [] if text == "[]" else _DECODE(text or "null")


_DECODE = json.JSONDecoder().decode

METADATA = MetaData()

#: Sorted and compared by its bytes, as Python does, whatever the database is set to.
_WORDS = Text().with_variant(Text(collation="C"), "postgresql")

#: SQLite numbers rows by itself in a column that is INTEGER to the letter.
_ROW_NUMBER = BigInteger().with_variant(Integer(), "sqlite")

#: How far from DATE-OBS the windows of calibrations reach, but of those that are set by hand (dpu_recipes.validity).
REACH = timedelta(days=20)
_REACH_US = REACH // timedelta(microseconds=1)
#: What holds of a calibration whose window reaches further: as it stands in the index, with no value to be bound. Only
#: then a planner sees that the index is meant.
LASTING = text(
    f"job IS NOT NULL AND (timestamp_start < date_obs - {_REACH_US} OR timestamp_end > date_obs + {_REACH_US})"
)

FRAMES = Table(
    "frames",
    METADATA,
    Column("sequence", _ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("project", _WORDS, nullable=False),
    Column("id", _WORDS, nullable=False),
    Column("frame_class", _WORDS, nullable=False),
    Column("instrument", _WORDS, nullable=False),
    Column("chip", _WORDS, nullable=False),
    Column("filter", _WORDS, nullable=False),
    Column("object", _WORDS, nullable=False),
    Column("night", Date, nullable=False),
    Column("date_obs", Instant, nullable=False),
    Column("exptime", Float, nullable=False),
    Column("readout", _WORDS, nullable=False),
    Column("overscan", Integer, nullable=False),
    Column("file_name", _WORDS, nullable=False),
    Column("digest", _WORDS, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("values", Json, nullable=False),
    Column("timestamp_start", Instant, nullable=False),
    Column("timestamp_end", Instant, nullable=False),
    Column("is_valid", Boolean, nullable=False),
    Column("quality_flags", BigInteger, nullable=False),
    Column("limits", Json, nullable=False, server_default="{}"),
    Column("creation_date", Instant, nullable=False),
    Column("inputs", Json, nullable=False),
    Column("parameters", Json, nullable=False),
    Column("user", _WORDS, nullable=False),
    Column("source", _WORDS, nullable=False),
    # A raw frame has neither job nor task nor attempt.
    Column("job", BigInteger),
    Column("task", Integer),
    Column("attempt", Integer),
    Column("number", Integer, nullable=False),
    Column("code_digest", _WORDS, nullable=False),
    Column("published", Boolean, nullable=False),
    Column("privileges", Integer, nullable=False, server_default="2"),
    # Who sees it (dpud.archive.records.Record.audience): first in the index of every selection.
    Column("audience", _WORDS, nullable=False, server_default=""),
    Column("identity", _WORDS, nullable=False, server_default=""),
    Column("consulted", Text, nullable=False, server_default=""),
    Column("making", Text, nullable=False, server_default=""),
    Index("frames_id", "id", "project", unique=True),
    Index("frames_file_name", "project", "file_name", unique=True),
    Index("frames_product", "job", "task", "attempt", "number", unique=True),
    Index("frames_night", "audience", "frame_class", "instrument", "night", "date_obs", "chip"),
    Index("frames_time", "audience", "frame_class", "instrument", "date_obs", "chip"),
    Index("frames_object", "audience", "frame_class", "instrument", "object", "date_obs", "chip"),
    # These three of products only: small, and no planner takes the first for a night's raw frames of one chip.
    Index(
        "frames_calibration",
        *("audience", "frame_class", "instrument", "chip", "date_obs"),
        sqlite_where=text("job IS NOT NULL"),
        postgresql_where=text("job IS NOT NULL"),
    ),
    Index(
        "frames_lasting",
        *("audience", "frame_class", "instrument", "chip"),
        sqlite_where=LASTING,
        postgresql_where=LASTING,
    ),
    Index(
        "frames_identity",
        *("audience", "identity"),
        sqlite_where=text("job IS NOT NULL"),
        postgresql_where=text("job IS NOT NULL"),
    ),
    Index("frames_source", "project", "source"),
    # With all that the totals of the tiers need, so that they are read of the index alone.
    Index("frames_digest", "digest", "project", "size"),
    Index("frames_unpublished", "published", "creation_date"),
)

#: Every name that finds a frame: its file's, and of a raw one its exposure's (dpu_recipes.validity.names_of).
NAMES = Table(
    "names",
    METADATA,
    Column("project", _WORDS, primary_key=True),
    Column("name", _WORDS, primary_key=True),
    Column("id", _WORDS, primary_key=True),
    Index("names_id", "project", "id"),
    Index("names_name", "name"),
)

#: What each product was made from; the digest of the file says which content it was, also when that is gone.
LINKS = Table(
    "links",
    METADATA,
    Column("project", _WORDS, primary_key=True),
    Column("product", _WORDS, primary_key=True),
    Column("input", _WORDS, primary_key=True),
    Column("digest", _WORDS, nullable=False),
    Index("links_input", "input"),
)

#: What frames that saw light are of, in whatever project: a wildcard looks here first, as the frames of an object are
#: many, and objects few. One of which there is no frame any more stays.
OBJECTS = Table(
    "objects",
    METADATA,
    *(Column(name, _WORDS, primary_key=True) for name in ("frame_class", "instrument", "object")),
)

#: The newest attempt at each task (dpud.archive.fence).
FENCES = Table(
    "fences",
    METADATA,
    Column("job", BigInteger, primary_key=True, autoincrement=False),
    Column("task", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("state", _WORDS, nullable=False),
)

#: The files that lie in the cold tier, and in how many bytes.
FROZEN = Table(
    "frozen",
    METADATA,
    Column("digest", _WORDS, primary_key=True),
    Column("stored", BigInteger, nullable=False),
)

#: On which day each file was asked for last; of those that never were there is no row.
USES = Table(
    "uses",
    METADATA,
    Column("digest", _WORDS, primary_key=True),
    Column("day", Date, nullable=False),
)

#: One row: the mark of the files that this catalogue tells of (dpud.archive.pairing).
STORES = Table("stores", METADATA, Column("mark", _WORDS, primary_key=True))


#: The newest migration.
VERSION = "0008"
_SHARING = "catalogue_version"


def upgrade(connection: Connection) -> None:
    """Bring the database of a connection to the newest version, in the connection's own transaction.

    Raises VersionMismatch where a newer archive has made it.
    """
    try:
        database.upgrade(connection, "dpud.archive:migrations", VERSION, version_table=version_table(connection))
    except NewerTables as error:
        raise VersionMismatch(
            f"{connection.engine.url.database} is of a version that this archive does not know: {error}; "
            "start the version of the DPU that made it"
        ) from error


def version_table(connection: Connection) -> str:
    """Return the name of the table that says of which version the catalogue is.

    A PostgreSQL may hold the journal, too, whose version is in `alembic_version`. Where an archive has written its own
    there, it is taken over.
    """
    if connection.dialect.name == "sqlite":
        return "alembic_version"
    tables = inspect(connection)
    if tables.has_table(FRAMES.name) and not tables.has_table(_SHARING):
        connection.execute(text(f"CREATE TABLE {_SHARING} AS TABLE alembic_version"))
    return _SHARING
