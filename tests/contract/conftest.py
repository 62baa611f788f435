"""Catalogues of the archive and journals of the scheduler, one of each kind: what their suites are held against."""

import pytest
import sqlalchemy as sa

from dpud.archive.catalogue import MemoryCatalogue
from dpud.archive.catalogue_sql import SqlCatalogue
from dpud.archive.schema import METADATA
from dpud.scheduler.database import postgres_engine, sqlite_engine
from dpud.scheduler.journal import MemoryJournal, Shelf
from dpud.scheduler.journal_sql import SqlJournal
from fakes_journal import SMALL_RESERVE, begun


@pytest.fixture(scope="session")
def on_postgresql(postgres):
    """A catalogue, with its tables made once for all tests."""
    opened = SqlCatalogue(sa.make_url(postgres.database()))
    yield opened
    opened.close()


def emptied(catalogue):
    tables = ", ".join(METADATA.tables)
    with catalogue._database.writing() as connection:
        connection.exec_driver_sql(f"TRUNCATE {tables} RESTART IDENTITY")
    return catalogue


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def catalogue(request, tmp_path):
    if request.param == "memory":
        yield MemoryCatalogue()
    elif request.param == "postgresql":
        yield emptied(request.getfixturevalue("on_postgresql"))
    else:
        opened = SqlCatalogue.on_file(tmp_path / "catalogue.sqlite")
        yield opened
        opened.close()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def opening(request, tmp_path):
    """Return what opens the same journal each time that it is called."""
    match request.param:
        case "memory":
            shelf = Shelf()
            return lambda: MemoryJournal(shelf)
        case "sqlite":
            return lambda: SqlJournal.open_file(tmp_path / "journal.sqlite", SMALL_RESERVE)
        case _:
            url = request.getfixturevalue("postgres").database()
            return lambda: begun(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def engines(request, tmp_path):
    """Return what makes an engine on the same database each time that it is called."""
    if request.param == "sqlite":
        return lambda: sqlite_engine(tmp_path / "journal.sqlite")
    url = request.getfixturevalue("postgres").database()
    return lambda: postgres_engine(url)
