"""Fixtures that more than one area uses."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from fakes_postgres import programs, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakes_postgres import Postgres


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Let Ctrl-C be heard: whoever starts the tests in the background has it ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests: `postgres.database()` makes an empty database of a test's own."""
    if (found := programs()) is None:
        pytest.skip("this machine has no PostgreSQL: no initdb on PATH or in /usr/lib/postgresql")
    with running(found) as server:
        yield server
