"""Catalogues of the archive, one of each kind: what its suites are held against."""

import pytest
import sqlalchemy as sa

from dpud.archive.catalogue import MemoryCatalogue
from dpud.archive.catalogue_sql import SqlCatalogue
from dpud.archive.schema import METADATA


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
