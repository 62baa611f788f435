"""Jobs that left the memory, in every journal."""

import sqlite3
import zlib
from contextlib import closing, suppress
from dataclasses import replace

import pytest
import sqlalchemy as sa

from dpu.values import to_map
from dpud.scheduler import codec, events
from dpud.scheduler.journal import Query, Superseded
from dpud.scheduler.journal_sql import SqlJournal
from dpud.scheduler.model import JobState
from dpud.scheduler.totals import DAY_S, Totals
from dpud.scheduler.words import words_in
from fakes_journal import SMALL_RESERVE, finished_jobs
from fakes_scheduler import NOON


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
