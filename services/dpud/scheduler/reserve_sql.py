"""Room in a PostgreSQL server that is kept back for when its disk is full: nobody here sees how much is left there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)

_MIB = 1024 * 1024
#: How often somebody looks whether the room is there, or can be had again.
LOOK_S = 10.0

#: Not logged: else as much room would be wanted for the server's log. A crash of the server empties it.
_MAKE = sa.text("CREATE UNLOGGED TABLE journal_reserve (number integer, body text)")
#: As large as it says, and not compressed.
_PLAIN = sa.text("ALTER TABLE journal_reserve ALTER COLUMN body SET STORAGE EXTERNAL")
_FILL = sa.text("INSERT INTO journal_reserve SELECT number, repeat('x', :size) FROM generate_series(1, :rows) number")
_DROP = sa.text("DROP TABLE IF EXISTS journal_reserve")
_SIZE = sa.text("SELECT coalesce(pg_total_relation_size(to_regclass('journal_reserve')), 0)")


class TableReserve:
    """A table that holds the room; giving it up lets others write."""

    def __init__(self, engine: sa.Engine, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._rows = max(1, size // _MIB)
        self._clock = clock
        self._held = False
        self._looked = -LOOK_S

    def take(self) -> bool:
        """Keep the room back, if there is so much; return whether it is, as it was found when somebody last looked."""
        if self._clock() - self._looked >= LOOK_S:
            self._looked = self._clock()
            self._held = self._is_there() or self._make()
        return self._held

    def _is_there(self) -> bool:
        try:
            with self._engine.begin() as connection:
                return bool(connection.scalar(_SIZE) >= self._rows * _MIB)
        except DBAPIError:
            return False

    def _make(self) -> bool:
        try:
            with self._engine.begin() as connection:
                connection.execute(_DROP)
                connection.execute(_MAKE)
                connection.execute(_PLAIN)
                connection.execute(_FILL, {"size": _MIB, "rows": self._rows})
        except DBAPIError as error:
            log.warning("no room is kept back for the journal", why=str(error.orig))
            return False
        return True

    def give_up(self) -> bool:
        """Free the room; return whether there was any."""
        was_there = self._is_there()
        self._held, self._looked = False, self._clock()
        try:
            with self._engine.begin() as connection:
                connection.execute(_DROP)
        except DBAPIError:
            return False
        return was_there
