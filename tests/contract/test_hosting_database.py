"""URLs, engines and migrations that every service with a database shares."""

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from dpud.archive import schema as catalogue
from dpud.hosting.database import POSTGRESQL, SQLITE, NewerTables, parse_url, sole_connection, upgrade
from dpud.hosting.settings import BadSetting
from dpud.logs import index
from dpud.scheduler import schema as journal

STEPS = {
    "archive": ("dpud.archive:migrations", catalogue.VERSION),
    "logs": ("dpud.logs:migrations", index.VERSION),
    "scheduler": ("dpud.scheduler:migrations", journal.VERSION),
}


@pytest.mark.parametrize("service", STEPS)
def test_the_version_that_the_code_names_is_that_of_the_last_step(service):
    steps, newest = STEPS[service]
    config = Config()
    config.set_main_option("script_location", steps)
    assert ScriptDirectory.from_config(config).get_current_head() == newest


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("postgresql://dpu@db/jobs", "postgresql+psycopg://dpu@db/jobs"),
        ("postgresql+psycopg://dpu@db/jobs", "postgresql+psycopg://dpu@db/jobs"),
        ("sqlite:////state/jobs.sqlite", "sqlite:////state/jobs.sqlite"),
    ],
)
def test_a_url_is_given_the_driver_that_is_ours(text, url):
    assert str(parse_url(text)) == url


@pytest.mark.parametrize("text", ["jobs", "mysql://dpu:secret@db/jobs", "sqlite:////state/secret"])
def test_a_bad_url_is_refused_with_what_it_must_be_and_without_its_password(text):
    with pytest.raises(
        BadSetting, match=r"DPU_DATABASE.*must be 'postgresql\+psycopg://USER@HOST/DATABASE'$"
    ) as caught:
        parse_url(text, [POSTGRESQL])
    assert ":secret" not in str(caught.value)


def test_each_kind_that_is_taken_is_named():
    with pytest.raises(BadSetting, match="must be 'postgresql.*' or 'sqlite:///PATH'$"):
        parse_url("mysql://db/jobs")


@pytest.fixture
def engine(tmp_path):
    made = sole_connection(sa.URL.create(SQLITE, database=str(tmp_path / "tables.sqlite")), ("wal_autocheckpoint=500",))
    yield made
    made.dispose()


def test_a_sqlite_file_is_written_ahead_with_a_sync_a_commit_and_settings_of_its_own(engine):
    with engine.connect() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
        assert found == ["wal", 2]
        assert connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar() == 500


def test_a_transaction_has_the_writers_lock_from_its_beginning(engine, tmp_path):
    other = sa.create_engine(f"sqlite:///{tmp_path}/tables.sqlite", connect_args={"timeout": 0.0})
    with engine.begin(), other.connect() as connection, pytest.raises(sa.exc.OperationalError, match="locked"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    other.dispose()


def test_tables_are_brought_to_the_newest_version_once_and_newer_ones_are_refused(engine):
    for _ in range(2):
        with engine.begin() as connection:
            upgrade(connection, *STEPS["logs"], version_table="log_version")
            assert sa.inspect(connection).has_table("log_object")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE log_version SET version_num = 'index_9999'")
        with pytest.raises(NewerTables, match="^index_9999$"):
            upgrade(connection, *STEPS["logs"], version_table="log_version")
