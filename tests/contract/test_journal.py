import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import zlib
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from dpu.values import to_map
from dpud.scheduler import codec, epoch, events, machine
from dpud.scheduler.database import open_engine, postgres_engine, sqlite_engine
from dpud.scheduler.journal import AppendFailed, MemoryJournal, Query, Shelf, Superseded, UnreadableJournal
from dpud.scheduler.journal_sql import SqlJournal
from dpud.scheduler.model import Cancellation, FailureCategory, Job, JobState, Key, Limits, State
from dpud.scheduler.reserve import Reserve
from dpud.scheduler.reserve_sql import LOOK_S, TableReserve
from dpud.scheduler.schema import snapshots
from dpud.scheduler.snapshot_sql import page_of_groups
from dpud.scheduler.snapshot_sql import shorten as shorten_sql
from dpud.scheduler.totals import DAY_S, Totals
from dpud.scheduler.words import words_in
from fakes_network import proxied
from fakes_scheduler import NOON, Trial, failure, plans

SMALL_RESERVE = 1024 * 1024


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


def begun(url):
    journal = SqlJournal(postgres_engine(url))
    journal.begin()
    return journal


GROUPS = [
    [events.StageBegun(1, 0, NOON), events.JobCancelRequested(1, Cancellation("anna", "Größe Å", NOON))],
    [
        events.StagePlanned(1, 0, 1, NOON, 0.1, 3, 20.0, plans("a", "b")),
        events.TasksDue((Key(1, 2), Key(1, 3))),
        events.JobSettled(1, NOON, JobState.CANCELLED),
    ],
]


def finished_jobs(number, **overrides):
    """Return jobs that have ended."""
    trial = Trial()
    trial.worker()
    for _ in range(number):
        trial.submit(tasks=plans("a"), limits=Limits(5.0, 100), **overrides)
    for lease in trial.claim(room=number):
        trial.now += 1
        trial.end(lease, failure() if lease.job == 2 else None)
        trial.deliver()
    return list(trial.state.jobs.values())


def test_what_was_appended_is_replayed_in_order_after_reopening(opening):
    with closing(opening()) as journal:
        for group in GROUPS:
            journal.append(group)
    with closing(opening()) as journal:
        assert list(journal.replay()) == GROUPS
        journal.append([events.JobEnded(1, NOON)])
    with closing(opening()) as journal:
        assert list(journal.replay()) == [*GROUPS, [events.JobEnded(1, NOON)]]


def test_events_of_presence_are_not_kept(opening):
    with closing(opening()) as journal:
        journal.append([events.SessionClosed("s"), events.LeasesExtended(NOON)])
        journal.append([events.SessionClosed("s"), events.JobEnded(1, NOON)])
        assert list(journal.replay()) == [[events.JobEnded(1, NOON)]]


def test_a_second_writer_makes_the_first_unable_to_append(opening):
    with closing(opening()) as first:
        first.append(GROUPS[0])
        with closing(opening()) as second:
            with pytest.raises(Superseded):
                first.append(GROUPS[1])
            second.append([events.JobEnded(1, NOON)])
            assert list(second.replay()) == [GROUPS[0], [events.JobEnded(1, NOON)]]


def test_a_long_journal_is_replayed_whole(opening):
    with closing(opening()) as journal:
        for number in range(1_100):
            journal.append([events.JobEnded(number, NOON)])
        assert [event.job for group in journal.replay() for event in group] == list(range(1_100))


def heads(*jobs):
    """Return jobs as a listing has them: without their tasks."""
    return [replace(job, tasks=[]) for job in jobs]


def test_the_history_gives_back_jobs_newest_first_and_their_tasks(opening):
    jobs = finished_jobs(3)
    with closing(opening()) as journal:
        journal.append([events.JobsRetired((1, 2, 3))], jobs)
    with closing(opening()) as journal:
        assert journal.history(Query("kids"), 10) == heads(*jobs[::-1])
        assert journal.history(Query("kids"), 2) == heads(jobs[2], jobs[1])
        assert [journal.tasks(job.id, 0, 10) for job in jobs] == [job.tasks for job in jobs]
        assert journal.tasks(9, 0, 10) == []
        assert list(journal.replay()) == [[events.JobsRetired((1, 2, 3))]]


def long_job(length):
    """Return an ended job of many tasks, no two of them alike."""
    [job] = finished_jobs(1)
    job.tasks = [replace(job.tasks[0], label=f"t{number}") for number in range(length)]
    return job


def test_the_tasks_of_a_long_job_are_laid_down_some_at_a_time_and_read_some_at_a_time(opening):
    job = long_job(1_234)
    with closing(opening()) as journal:
        # A scheduler that ends half-way, or before the job leaves, begins anew.
        for _ in journal.laying_down(job):
            break
    with closing(opening()) as journal:
        for _ in journal.laying_down(job):
            assert journal.history(Query("kids"), 10) == []
        journal.append([events.JobsRetired((1,))], [job])
    with closing(opening()) as journal:
        assert journal.history(Query("kids"), 10) == heads(job)
        for first, limit in ((0, 2_000), (0, 1), (499, 2), (500, 500), (1_200, 100), (1_234, 10), (5_000, 1)):
            assert journal.tasks(1, first, limit) == job.tasks[first : first + limit]


def test_a_superseded_writer_lays_nothing_down(opening):
    with closing(opening()) as first, closing(opening()) as second:
        with suppress(Superseded):
            for _ in first.laying_down(long_job(1)):
                pass
        assert second.tasks(1, 0, 10) == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query("atlas"), []),
        (Query("kids", user="bert"), []),
        (Query("kids", user="anna"), [3, 2, 1]),
        (Query("kids", ids=frozenset({1, 3, 9})), [3, 1]),
        (Query("kids", states=frozenset({JobState.FAILED})), [2]),
        (Query("kids", sequence="Bias", before=3), [2, 1]),
        (Query("kids", sequence="Dome"), []),
        (Query("kids", ended_after=NOON + 1), [3, 2]),
        (Query("kids", before=3, above=1), [2]),
        (Query("kids", states=frozenset(JobState)), [3, 2, 1]),
        (Query("kids", states=frozenset({JobState.RUNNING})), []),
        (Query("kids", words=words_in("wfi #842")), [3, 2, 1]),
        (Query("kids", words=words_in("ANNA Failed ngc")), [2]),
        (Query("kids", words=words_in("wfi #84")), []),
        (Query("kids", words=words_in("größe")), [3, 2, 1]),
        (Query("kids", words=words_in("x" * 100)), [3, 2, 1]),
        (Query("atlas", words=words_in("wfi")), []),
    ],
)
def test_the_history_is_searched_as_the_memory_is(opening, query, expected):
    options = {"instrument": "WFI", "filter": ["#842", "Größe"], "object": "NGC 1\x00 2 " + "X" * 100, "parallel": 3}
    jobs = finished_jobs(3, options=to_map(options).SerializeToString())
    with closing(opening()) as journal:
        journal.append([], jobs)
        assert [job.id for job in journal.history(query, 10)] == expected
    assert [job.id for job in reversed(jobs) if query.fits(job)] == expected


def test_what_jobs_came_to_is_added_up_as_they_end(opening):
    jobs = finished_jobs(3)
    jobs[2].user, jobs[2].ended = "bert", jobs[2].ended + DAY_S
    today = int(NOON // DAY_S)
    with closing(opening()) as journal:
        for job in jobs:
            journal.append([events.JobEnded(job.id, job.ended)], ended=[job])
        journal.append([events.SessionClosed("s")])
    with closing(opening()) as journal:
        first = Totals(1, 1, 0, tasks=1, ran_s=3, longest_run_s=2, busy_s=20)
        last = Totals(1, 0, 0, tasks=1, ran_s=DAY_S + 3, longest_run_s=DAY_S + 3, busy_s=10)
        assert journal.totals("kids", today, "day") == {today: first, today + 1: last}
        assert journal.totals("kids", today, "owner") == {"anna": first, "bert": last}
        assert journal.totals("kids", today, "sequence") == {"Bias": first + last}
        assert journal.totals("kids", today + 1, "owner") == {"bert": last}
        assert journal.totals("atlas", 0, "day") == {}


def test_the_history_of_an_older_release_is_found_by_its_words_and_added_up(tmp_path):
    file = tmp_path / "journal.sqlite"
    jobs = finished_jobs(3)
    with closing(SqlJournal.open_file(file, SMALL_RESERVE)) as journal:
        journal.append([events.JobsRetired((1, 2, 3))], jobs)
    with closing(sqlite3.connect(file)) as database:
        database.executescript(
            "DROP TABLE job_word; DROP TABLE job_day; UPDATE alembic_version SET version_num = 'journal_0003';"
            "CREATE INDEX job_history_by_owner ON job_history (project, owner, id); DROP TABLE job_task"
        )
        # Then, jobs had their tasks with them.
        rows = [(zlib.compress(codec.dump(job), 1), job.id) for job in jobs]
        database.executemany("UPDATE job_history SET body = ? WHERE id = ?", rows)
        database.commit()
    with closing(SqlJournal.open_file(file, SMALL_RESERVE)) as journal:
        assert journal.history(Query("kids"), 9) == heads(*jobs[::-1])
        assert [journal.tasks(job.id, 0, 9) for job in jobs] == [job.tasks for job in jobs]
        assert [job.id for job in journal.history(Query("kids", words=words_in("anna finished")), 9)] == [3, 1]
        assert [total.failed for total in journal.totals("kids", 0, "owner").values()] == [1]


@pytest.mark.parametrize(
    "query",
    [
        Query("kids"),
        Query("kids", before=9, above=2),
        Query("kids", ids=frozenset({1, 2})),
        Query("kids", user="anna", sequence="Bias"),
        Query("kids", states=frozenset({JobState.FAILED}), words=words_in("wfi 2000-04-28")),
    ],
)
def test_whatever_is_asked_of_the_history_an_index_answers(tmp_path, query):
    with closing(SqlJournal.open_file(tmp_path / "journal.sqlite", SMALL_RESERVE)) as journal:
        asked = []
        sa.event.listen(journal._engine, "before_cursor_execute", lambda *call: asked.append(call[2:4]))
        journal.history(query, 10)
        journal.totals("kids", 0, "sequence")
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as database:
        selects = [(text, values) for text, values in asked if "job_" in text]
        plans = [row[3] for text, values in selects for row in database.execute(f"EXPLAIN QUERY PLAN {text}", values)]
    assert [step for step in plans if step.startswith("SCAN") and "(subquery" not in step and "anon" not in step] == []
    assert [step for step in plans if "ORDER BY" in step] == []
    assert any("SEARCH" in step for step in plans)


def eventful():
    """Return a trial in which something waits, runs, is delayed, has ended and is to be told."""
    trial = Trial()
    trial.worker()
    trial.submit(user="bert")
    trial.submit(tasks=plans("a", "b", "c", "d", "e"), priority=3)
    leases = trial.claim(room=4)
    trial.end(leases[1])
    trial.end(leases[2], failure(FailureCategory.INFRASTRUCTURE))
    trial.cancel(trial.submit(tasks=plans("z")))
    return trial


@contextmanager
def disposed(engine):
    """Give an engine, and close its connections."""
    try:
        yield engine
    finally:
        engine.dispose()


def shorten(journal):
    """Do what the process beside the scheduler does."""
    if isinstance(journal, SqlJournal):
        with disposed(open_engine(journal.url)) as engine:
            shorten_sql(engine, journal.epoch)
    else:
        journal.shorten()


def restored(journal):
    state = journal.base()
    for group in journal.replay():
        for event in group:
            machine.apply(state, event)
    return state


def test_a_shortened_journal_gives_the_same_state(opening):
    trial = eventful()
    with closing(opening()) as journal:
        for event in trial.happened:
            journal.append([event])
        shorten(journal)
        assert list(journal.replay()) == []
        assert restored(journal) == trial.state
        before = len(trial.happened)
        trial.pass_time(100)
        trial.submit(tasks=plans("late"))
        journal.append(trial.happened[before:])
        assert len(list(journal.replay())) == 1
    with closing(opening()) as journal:
        assert restored(journal) == trial.state
        shorten(journal)
        shorten(journal)
        assert restored(journal) == trial.state
        journal.append([events.JobEnded(1, NOON)])
        assert list(journal.replay()) == [[events.JobEnded(1, NOON)]]


def test_a_superseded_writers_snapshot_drops_nothing(engines):
    with closing(SqlJournal(engines())) as first, closing(SqlJournal(engines())) as second:
        first.begin()
        first.append(eventful().happened)
        second.begin()
        with disposed(engines()) as engine, pytest.raises(Superseded):
            shorten_sql(engine, first.epoch)
        assert restored(second) == eventful().state
        with disposed(engines()) as engine, engine.begin() as connection:
            assert len(page_of_groups(connection, 0)) == 1


def test_half_a_snapshot_does_not_count(engines):
    with closing(SqlJournal(engines())) as journal:
        journal.begin()
        journal.append(eventful().happened)
        with disposed(engines()) as engine, engine.begin() as connection:
            connection.execute(sa.insert(snapshots).values(number=1, part=0, parts=2, body=b""))
        assert restored(journal) == eventful().state


def test_a_replayed_journal_gives_the_state(opening):
    trial = Trial()
    trial.worker()
    trial.submit(tasks=plans("a", "b", "c"))
    for lease, category in zip(trial.claim(room=3), [None, *FailureCategory], strict=False):
        trial.end(lease, failure(category) if category else None)
    with closing(opening()) as journal:
        journal.append(trial.happened)
    state = State()
    with closing(opening()) as journal:
        for group in journal.replay():
            for event in group:
                machine.apply(state, event)
    assert state == trial.state


def test_a_broken_shelf_takes_nothing():
    shelf = Shelf(broken=True)
    with pytest.raises(AppendFailed):
        MemoryJournal(shelf).append(GROUPS[0])
    assert list(MemoryJournal(shelf).replay()) == []


def test_a_writer_that_was_killed_leaves_every_group_whole(tmp_path):
    path = tmp_path / "journal.sqlite"
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from dpud.scheduler import events
        from dpud.scheduler.journal_sql import SqlJournal
        journal = SqlJournal.open_file(Path(sys.argv[1]), 1024)
        for number in range(1_000_000):
            journal.append([events.JobEnded(number, 0.0), events.JobEnded(number, 1.0)])
            print(number, flush=True)
    """)
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        said = [int(next(writer.stdout)) for _ in range(50)]
        writer.send_signal(signal.SIGKILL)
        said += map(int, writer.stdout)
    with closing(SqlJournal.open_file(path, 1024)) as journal:
        groups = list(journal.replay())
    assert [[event.job for event in group] for group in groups] == [[number] * 2 for number in range(len(groups))]
    assert len(said) <= len(groups) <= len(said) + 1


@contextmanager
def files_of_at_most(size):
    """Let no file of this process grow beyond `size`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


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


def test_a_full_disk_of_postgresql_is_answered_from_the_room_that_was_kept_back(postgres):
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

        journal.append(GROUPS[0])
        assert reserve.refusals == 1
        assert not journal.roomy
        assert list(journal.replay()) == [GROUPS[0]]


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


@pytest.fixture(params=["sqlite", "postgresql"])
def engines(request, tmp_path):
    """Return what makes an engine on the same database each time that it is called."""
    if request.param == "sqlite":
        return lambda: sqlite_engine(tmp_path / "journal.sqlite")
    url = request.getfixturevalue("postgres").database()
    return lambda: postgres_engine(url)


def test_nobody_takes_over_before_the_writers_time_is_up(engines):
    with closing(SqlJournal(engines())) as first, closing(SqlJournal(engines())) as second:
        first.begin(by_force=False)
        with pytest.raises(epoch.Taken):
            second.begin(by_force=False)
        first.append(GROUPS[0])
        first.renew()
        first.resign()
        second.begin(by_force=False)
        for late in (first.renew, first.resign, lambda: first.append(GROUPS[1])):
            with pytest.raises(Superseded):
                late()
        assert list(second.replay()) == [GROUPS[0]]


def test_a_writer_need_not_wait_for_the_end_of_its_own_earlier_time(engines):
    with closing(SqlJournal(engines())) as before, closing(SqlJournal(engines())) as after:
        before.begin(by_force=False)
        with pytest.raises(epoch.Taken):
            after.begin(by_force=False, own=before.epoch - 1)
        after.begin(by_force=False, own=before.epoch)
        with pytest.raises(Superseded):
            before.append(GROUPS[0])
        after.append(GROUPS[0])


def test_a_journal_of_another_format_is_refused(tmp_path):
    path = tmp_path / "journal.sqlite"
    SqlJournal.open_file(path, 1024).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE writer SET format = 99")
        database.commit()
    with pytest.raises(UnreadableJournal, match="format 99, and this version reads 1"):
        SqlJournal.open_file(path, 1024)


def test_newer_tables_are_refused(tmp_path):
    path = tmp_path / "journal.sqlite"
    SqlJournal.open_file(path, 1024).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = 'journal_9999'")
        database.commit()
    with pytest.raises(UnreadableJournal, match="'journal_9999'"):
        SqlJournal.open_file(path, 1024)


def test_a_job_goes_through_the_codec_unchanged():
    for job in finished_jobs(3):
        assert codec.load(Job, codec.dump(job)) == job
