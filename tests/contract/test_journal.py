import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing, contextmanager

import pytest
import sqlalchemy as sa

from dpud.scheduler import codec, epoch, events, machine
from dpud.scheduler.database import open_engine
from dpud.scheduler.journal import AppendFailed, MemoryJournal, Shelf, Superseded, UnreadableJournal
from dpud.scheduler.journal_sql import SqlJournal
from dpud.scheduler.model import FailureCategory, Job, State
from dpud.scheduler.schema import snapshots
from dpud.scheduler.snapshot_sql import page_of_groups
from dpud.scheduler.snapshot_sql import shorten as shorten_sql
from fakes_journal import GROUPS, finished_jobs
from fakes_scheduler import NOON, Trial, failure, plans


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


def test_a_snapshot_leaves_the_writer_its_turn_after_each_few_rows_that_it_reads(tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr("dpud.scheduler.snapshot_sql.time.sleep", pauses.append)
    monkeypatch.setattr("dpud.scheduler.snapshot_sql._FEW", 2)
    with closing(SqlJournal.open_file(tmp_path / "journal.sqlite", 1024)) as journal:
        for event in eventful().happened:
            journal.append([event])
        groups = len(list(journal.replay()))
        shorten(journal)
        assert restored(journal) == eventful().state
    assert len(pauses) > groups / 2
    assert min(pauses) >= 0.01


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
