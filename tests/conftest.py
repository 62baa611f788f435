"""Fixtures that more than one area uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fakes_postgres import programs, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakes_postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests: `postgres.database()` makes an empty database of a test's own."""
    if (found := programs()) is None:
        pytest.skip("this machine has no PostgreSQL: no initdb on PATH or in /usr/lib/postgresql")
    with running(found) as server:
        yield server
