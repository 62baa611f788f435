"""What has happened is counted as it is committed, whatever names people give their sequences."""

from dataclasses import replace

import pytest

from dpud.hosting.metrics import Distribution
from dpud.scheduler.model import FailureCategory, JobState
from dpud.scheduler.tally import MOST_NAMES, OTHER, Tally
from fakes_scheduler import BIAS, NOON, Trial, failure, plans


@pytest.fixture
def counted():
    """A trial whose every step is counted."""
    trial = Trial()
    trial.tally = Tally(NOON)
    do = trial.do

    def doing(command):
        happened = do(command)
        trial.tally.commit(happened, 0.002, trial.state)
        return happened

    trial.do = doing
    return trial


def test_a_distribution_counts_values_up_to_each_bound():
    values = Distribution((1, 10))
    for value in (0.5, 1, 1.5, 11):
        values.observe(value)
    assert values.buckets() == [("1", 2.0), ("10", 3.0), ("+Inf", 4.0)]
    assert (values.count, values.total) == (4, 14.0)


def test_a_task_waits_from_when_its_stage_was_planned_to_its_first_lease(counted):
    counted.worker()
    counted.submit()
    counted.now += 5
    (plan,) = counted.claim()
    counted.now += 1
    counted.plan(plan, "ccd50", "ccd51")
    counted.now += 20
    counted.claim(room=2)
    # The plan after 5 s; both tasks 20 s after they were planned.
    assert (counted.tally.waits.count, counted.tally.waits.total) == (3, 45.0)


def test_what_is_leased_again_has_not_waited_for_its_first_lease(counted):
    counted.worker()
    counted.submit(tasks=plans("ccd50"))
    (lease,) = counted.claim()
    counted.pass_time(31)
    counted.pass_time(29)
    counted.worker()
    assert len(counted.claim()) == 1
    assert lease.attempt == 1
    assert counted.tally.waits.count == 1
    assert counted.tally.expired == 1
    assert +counted.tally.attempts == {("retried", "worker_lost"): 1}


def test_attempts_are_counted_by_how_they_ended(counted):
    counted.worker()
    counted.submit(tasks=plans("ccd50", "ccd51"))
    well, badly = counted.claim(room=2)
    counted.end(well, run_s=12.0)
    counted.end(badly, failure(FailureCategory.RECIPE))
    counted.deliver()
    assert +counted.tally.attempts == {("succeeded", ""): 1, ("failed", "recipe"): 1}
    assert {name: (runs.count, runs.total) for name, runs in counted.tally.runs.items()} == {"Bias": (1, 12.0)}
    assert counted.tally.ended == {("Bias", JobState.FAILED): 1}


def test_only_so_many_names_are_told_apart(counted):
    for number in range(MOST_NAMES + 20):
        counted.submit(sequence=replace(BIAS, name=f"job-{number}"))
    assert len(counted.tally.submitted) == MOST_NAMES + 1
    assert counted.tally.submitted[OTHER] == 20


def test_a_commit_that_stores_nothing_is_no_append(counted):
    counted.worker()
    assert counted.tally.appends.count == 0
    counted.submit()
    assert (counted.tally.appends.count, counted.tally.appends.total) == (1, 0.002)


def test_an_ended_job_is_not_remembered(counted):
    counted.worker()
    counted.submit(tasks=plans("ccd50"))
    (lease,) = counted.claim()
    counted.end(lease)
    counted.deliver()
    assert counted.state.jobs[1].state is JobState.FINISHED
    assert counted.tally._ready == {}
