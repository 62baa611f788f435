"""Full disks and broken connections under a journal in a database."""

import threading
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from dpud.scheduler import codec, events
from dpud.scheduler.database import postgres_engine, sqlite_engine
from dpud.scheduler.journal import AppendFailed, Superseded
from dpud.scheduler.journal_sql import SqlJournal
from dpud.scheduler.model import Limits
from dpud.scheduler.reserve import Reserve
from dpud.scheduler.reserve_sql import LOOK_S, TableReserve
from fakes_disk import files_of_at_most
from fakes_journal import GROUPS, SMALL_RESERVE, begun
from fakes_network import proxied
from fakes_scheduler import NOON, plans


def test_a_disk_that_takes_nothing_leaves_the_journal_as_it_was(tmp_path):
    path = tmp_path / "journal.sqlite"
    big = [events.StagePlanned(1, 0, 1, NOON, 0.1, 3, 20.0, plans(*map(str, range(20_000))))]
    with closing(SqlJournal.open_file(path, SMALL_RESERVE)) as journal:
        journal.append(GROUPS[0])
        with files_of_at_most(64 * 1024), pytest.raises(AppendFailed, match="the journal took nothing"):
            journal.append(big)
        assert not (tmp_path / "journal.reserve").exists()
    with closing(SqlJournal.open_file(path, SMALL_RESERVE)) as journal:
        assert list(journal.replay()) == [GROUPS[0]]
        journal.append(big)
        assert list(journal.replay()) == [GROUPS[0], big]


class Disk(Reserve):
    """A reserve on a disk of so many pages; what it gives up, the database may take."""

    def __init__(self, path, engine):
        super().__init__(path, SMALL_RESERVE)
        self._engine = engine

    def allow(self, more):
        with self._engine.begin() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + more}")

    def give_up(self):
        freed = super().give_up()
        self.allow(1_000)
        return freed


def test_a_full_disk_is_answered_from_the_reserve_and_recovers(tmp_path):
    engine = sqlite_engine(tmp_path / "journal.sqlite")
    disk = Disk(tmp_path / "journal.reserve", engine)
    with closing(SqlJournal(engine, disk)) as journal:
        journal.begin()
        disk.allow(0)
        # Nothing that a compressor could make small: it must really need pages.
        labels = [codec.dump(Limits(number**0.5, number)).hex() for number in range(1_000)]
        big = [events.StagePlanned(1, 0, 1, NOON, 0.1, 3, 20.0, plans(*labels))]
        journal.append(big)
        assert list(journal.replay()) == [big]
        assert not disk.held
        assert journal.roomy
        assert disk.held


def test_room_in_postgresql_is_kept_back_given_up_and_taken_again(postgres):
    now = 0.0
    with closing(begun(postgres.database())) as journal:
        reserve = TableReserve(journal._engine, SMALL_RESERVE, lambda: now)
        assert reserve.take()
        size = sa.text("SELECT coalesce(pg_total_relation_size(to_regclass('journal_reserve')), 0)")
        with journal._engine.begin() as connection:
            assert connection.scalar(size) >= SMALL_RESERVE
        # The next leader finds it there.
        assert TableReserve(journal._engine, SMALL_RESERVE).take()
        assert reserve.give_up()
        assert not reserve.give_up()
        with journal._engine.begin() as connection:
            assert connection.scalar(size) == 0
        assert not reserve.take()
        now += LOOK_S
        assert reserve.take()
        # As the server does after a crash.
        with journal._engine.begin() as connection:
            connection.execute(sa.text("TRUNCATE journal_reserve"))
        now += LOOK_S
        assert reserve.take()
        with journal._engine.begin() as connection:
            assert connection.scalar(size) >= SMALL_RESERVE


class Cramped(TableReserve):
    """Room in a server whose disk is full but for it."""

    def __init__(self, engine):
        super().__init__(engine, SMALL_RESERVE)
        self.refusals = 0

    def give_up(self):
        self.refusals += 1
        return super().give_up()


@pytest.mark.parametrize("work", ["append", "renew"])
def test_a_full_disk_of_postgresql_is_answered_from_the_room_that_was_kept_back(postgres, work):
    engine = postgres_engine(postgres.database())
    reserve = Cramped(engine)
    with closing(SqlJournal(engine, reserve)) as journal:
        journal.begin()
        assert journal.roomy

        @sa.event.listens_for(engine, "checkout")
        def _fill(_connection, _record, _proxy):
            if reserve.refusals == 0:
                # What the server says where a file cannot grow.
                raise psycopg.errors.DiskFull("could not extend file: No space left on device")

        if work == "append":
            journal.append(GROUPS[0])
        else:
            # A leader without work is one still.
            journal.renew()
        assert reserve.refusals == 1
        assert not journal.roomy
        assert list(journal.replay()) == ([GROUPS[0]] if work == "append" else [])


@pytest.fixture
def line(postgres, tmp_path):
    """Return a line to the database server that fails on demand."""
    folder = tmp_path / "line"
    folder.mkdir()
    with proxied(f"{postgres.folder}/.s.PGSQL.5432", f"{folder}/.s.PGSQL.5432") as proxy:
        yield proxy


def through(line, postgres):
    """Return the URL of an empty database, by the line."""
    return postgres.database().replace(str(postgres.folder), str(Path(line.address).parent))


def test_a_commit_whose_answer_was_lost_is_done_once(line, postgres):
    with closing(begun(through(line, postgres))) as journal:
        journal.append(GROUPS[0])
        line.unheard = b"COMMIT"
        journal.append(GROUPS[1])
        assert line.unheard == b""
        journal.append([events.JobEnded(1, NOON)])
        assert list(journal.replay()) == [*GROUPS, [events.JobEnded(1, NOON)]]


def test_a_commit_that_never_arrived_is_done_once(line, postgres):
    with closing(begun(through(line, postgres))) as journal:
        journal.append(GROUPS[0])
        line.cut()
        threading.Timer(0.2, line.mend).start()
        journal.append(GROUPS[1])
        assert list(journal.replay()) == GROUPS


def test_a_group_in_doubt_is_not_appended_by_a_superseded_writer(line, postgres):
    url = through(line, postgres)
    with closing(begun(url)) as first:
        line.unheard = b"COMMIT"
        first.append(GROUPS[0])
        with closing(begun(url)) as second:
            line.cut()
            threading.Timer(0.1, line.mend).start()
            with pytest.raises(Superseded):
                first.append(GROUPS[1])
            assert list(second.replay()) == [GROUPS[0]]


def test_connections_that_the_server_ends_are_opened_again(postgres):
    url = postgres.database()
    with closing(begun(url)) as journal:
        for group in GROUPS:
            with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as other:
                ended = other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dpu scheduler' "
                    "AND datname = current_database()"
                )
                assert ended.rowcount == 1
            journal.append(group)
        assert list(journal.replay()) == GROUPS


def test_a_database_that_stays_away_takes_nothing(line, postgres, monkeypatch):
    monkeypatch.setattr("dpud.scheduler.journal_sql.PATIENCE_S", 0.2)
    with closing(begun(through(line, postgres))) as journal:
        line.cut()
        with pytest.raises(AppendFailed, match="the journal took nothing"):
            journal.append(GROUPS[0])
