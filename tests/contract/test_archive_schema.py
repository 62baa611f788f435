"""The tables of the catalogue and the migrations that make them."""

from contextlib import contextmanager
from datetime import date, timedelta

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

from dpu.errors import StorageFull, VersionMismatch
from dpu_recipes import validity
from dpu_recipes.archive import Selection
from dpu_recipes.night import midnight_of
from dpud.archive.catalogue_sql import SqlCatalogue
from dpud.archive.records import Attempt, Query, View
from dpud.archive.rows import record_of, rows_of
from dpud.archive.schema import FRAMES, LINKS, METADATA, OBJECTS, REACH, VERSION, upgrade, version_table
from dpud.scheduler.schema import migrate
from fakes_archive import a_product, a_raw


@pytest.fixture(params=["sqlite", "postgresql"])
def connection(request, tmp_path):
    on_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/catalogue" if on_sqlite else request.getfixturevalue("postgres").database()
    engine = sa.create_engine(url)
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def version_of(connection):
    return connection.scalar(sa.select(sa.column("version_num")).select_from(sa.table(version_table(connection))))


def test_the_migrations_lead_to_the_tables_that_the_code_expects(connection):
    upgrade(connection)
    opts = {"version_table": version_table(connection)}
    assert compare_metadata(MigrationContext.configure(connection, opts=opts), METADATA) == []
    assert version_of(connection) == VERSION


def test_a_catalogue_is_upgraded_once(connection):
    upgrade(connection)
    upgrade(connection)
    assert set(sa.inspect(connection).get_table_names()) == {version_table(connection), *METADATA.tables}


def test_every_step_can_be_undone(connection):
    upgrade(connection)
    config = Config()
    config.set_main_option("script_location", "dpud.archive:migrations")
    config.attributes["connection"] = connection
    command.downgrade(config, "base")
    assert sa.inspect(connection).get_table_names() == [version_table(connection)]


def test_a_catalogue_of_a_newer_archive_is_refused(connection):
    upgrade(connection)
    connection.execute(
        sa.update(sa.table(version_table(connection), sa.column("version_num"))).values(version_num="9999")
    )
    with pytest.raises(VersionMismatch, match="is of a version that this archive does not know"):
        upgrade(connection)


@pytest.mark.parametrize("connection", ["postgresql"], indirect=True)
@pytest.mark.parametrize("order", [(migrate, upgrade), (upgrade, migrate)], ids=["journal", "catalogue"])
def test_catalogue_and_journal_share_a_database(connection, order):
    for _ in range(2):
        for step in order:
            step(connection)


@pytest.mark.parametrize("connection", ["postgresql"], indirect=True)
def test_a_version_that_was_written_where_the_journal_has_its_own_is_taken_over(connection):
    upgrade(connection)
    connection.execute(sa.text("ALTER TABLE catalogue_version RENAME TO alembic_version"))
    upgrade(connection)
    assert version_of(connection) == VERSION


def test_a_catalogue_is_there_when_it_is_opened_again(tmp_path):
    for expected in (1, 0):
        catalogue = SqlCatalogue.on_file(tmp_path / "catalogue.sqlite")
        assert catalogue.add([a_raw()]) == expected
        catalogue.close()


def test_a_database_that_takes_no_more_is_a_full_disk(tmp_path):
    catalogue = SqlCatalogue.on_file(tmp_path / "catalogue.sqlite")
    with catalogue._database.engine.connect() as opened:
        pages = opened.exec_driver_sql("PRAGMA page_count").scalar()

    @sa.event.listens_for(catalogue._database.engine, "begin")
    def _limited(connection):
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    with pytest.raises(StorageFull, match=r"catalogue\.sqlite: database or disk is full: nothing was stored"):
        catalogue.add([a_raw(number) for number in range(100)])
    assert catalogue.counts(Query(view=View("KIDS")), "chip") == {}
    catalogue.close()


def asking(frame_class="", *, view=View("KIDS"), only_job=False, source="", **selection):  # noqa: B008 (frozen)
    chosen = Selection(**{"instrument": "WFI" if frame_class else ""} | selection)
    return Query(view=view, frame_class=frame_class, selection=chosen, only_job=only_job, source=source)


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (asking("RawBiasFrame", night="2000-04-28"), "frames_night"),
        (asking("RawScienceFrame", object="CDF4"), "frames_object"),
        (asking("RawScienceFrame", object="*_F1"), "frames_object"),
        (asking("RawBiasFrame"), "frames_time"),
        (asking(file_names=("r.fits",)), "names_name"),
        (asking(view=View("KIDS", 7), only_job=True), "frames_product"),
        (asking(source="aa"), "frames_source"),
        (asking("BiasFrame", instrument="", identity="1d"), "frames_identity"),
    ],
)
def test_every_kind_of_query_has_its_index(tmp_path, query, index):
    with plans_of(tmp_path) as (catalogue, plans):
        catalogue.select(query, limit=10)
    assert any(f"USING INDEX {index} " in plan or f"COVERING INDEX {index} " in plan for plan in plans), plans


def test_calibrations_are_looked_for_about_the_time_of_the_frame(tmp_path):
    with plans_of(tmp_path) as (catalogue, plans):
        catalogue.calibrations(View("KIDS"), "BiasFrame", a_raw().frame)
    about, lasting = (plan for plan in plans if plan.startswith("SEARCH frames"))
    assert "frames_calibration" in about
    assert "chip=? AND date_obs>? AND date_obs<?" in about
    assert "frames_lasting" in lasting


@pytest.mark.parametrize("frame_class", validity.CALIBRATIONS)
@pytest.mark.parametrize("longitude", [-180.0, 0.0, 180.0])
def test_no_window_reaches_further_than_calibrations_are_looked_for(frame_class, longitude):
    night = date(2000, 4, 28)
    begin, end = validity.window(frame_class, night, longitude)
    noon = midnight_of(night, longitude) - timedelta(hours=12)
    # DATE-OBS of a night is between its noon and the next.
    assert begin >= noon + timedelta(days=1) - REACH
    assert end <= noon + REACH


@contextmanager
def plans_of(folder):
    """Give a catalogue on SQLite, and the plans of what it is asked."""
    catalogue = SqlCatalogue.on_file(folder / "catalogue.sqlite")
    plans = []

    @sa.event.listens_for(catalogue._database.engine, "before_cursor_execute")
    def _explained(_connection, cursor, statement, parameters, *_):
        if statement.startswith("SELECT"):
            plans.extend(row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    yield catalogue, plans
    catalogue.close()


def test_what_was_there_before_levels_and_links_is_given_them(connection):
    upgrade(connection)
    config = Config()
    config.set_main_option("script_location", "dpud.archive:migrations")
    config.attributes["connection"] = connection
    made = a_product(Attempt(7, 1, 1), inputs=("raw",), consulted='[["ReadNoise", "raw", null, "noise"]]', limits={})
    records = [a_raw(id="raw"), made.evolve(published=True), a_product(Attempt(7, 2, 1), project="A B", limits={})]
    rows = rows_of(records, {})
    connection.execute(sa.insert(FRAMES), rows.frames)
    command.downgrade(config, "0003")
    command.upgrade(config, "head")
    found = connection.execute(sa.select(FRAMES).order_by(FRAMES.c.sequence)).all()
    assert [record_of(row).evolve(sequence=0) for row in found] == records
    assert [row.audience for row in found] == ["2/KIDS", "2/KIDS", "0/A%20B/7"]
    objects = {tuple(row) for row in connection.execute(sa.select(OBJECTS))}
    assert objects == {("RawBiasFrame", "WFI", "BIAS"), ("BiasFrame", "WFI", "BIAS")}
    links = [tuple(row) for row in connection.execute(sa.select(LINKS).order_by(LINKS.c.input))]
    mine, theirs = (record.frame.id for record in records[1:])
    assert links == [
        ("A B", theirs, "a", ""),
        ("A B", theirs, "b", ""),
        ("KIDS", mine, "noise", ""),
        ("KIDS", mine, "raw", records[0].frame.digest),
    ]
