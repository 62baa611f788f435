"""What the suites of the journal share."""

from dpud.scheduler import events
from dpud.scheduler.database import postgres_engine
from dpud.scheduler.journal_sql import SqlJournal
from dpud.scheduler.model import Cancellation, JobState, Key, Limits
from fakes_scheduler import NOON, Trial, failure, plans

SMALL_RESERVE = 1024 * 1024


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
