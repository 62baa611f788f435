"""How many slots are wanted: what runs, and what may run now, by memory."""

import pytest

from dpud.scheduler.commands import SetAllowance
from dpud.scheduler.demand import LOOKED_AT, Class, allowed, running, wanted
from dpud.scheduler.model import Allowance, FailureCategory, Party
from dpud.scheduler.scaler import Trigger
from fakes_scheduler import Trial, failure, plans

ANY = Class()
SMALL = Class(up_to_mib=1_000)
LARGE = Class(above_mib=1_000)


@pytest.fixture
def trial():
    return Trial()


def queued(trial, *memories, **overrides):
    """Submit a job whose tasks need so much memory each."""
    tasks = tuple(plans(f"t{number}", memory_mib=memory)[0] for number, memory in enumerate(memories))
    return trial.submit(tasks=tasks, **overrides)


def allow(trial, kind, name, **figures):
    trial.do(SetAllowance(party=Party(kind, name), allowance=Allowance(**figures), by="ruth"))


def test_an_idle_dpu_wants_nothing(trial):
    trial.worker()
    assert wanted(trial.state, ANY) == 0


def test_a_plan_wants_a_slot(trial):
    trial.submit()
    assert (wanted(trial.state, ANY), wanted(trial.state, SMALL)) == (1, 1)


def test_what_runs_and_what_waits_are_both_wanted(trial):
    trial.worker()
    queued(trial, 100, 100, 100)
    trial.claim(room=2)
    assert (running(trial.state, ANY), allowed(trial.state, ANY), wanted(trial.state, ANY)) == (2, 1, 3)


def test_each_class_of_memory_counts_its_own(trial):
    queued(trial, 100, 1_000, 1_001, 64_000)
    assert (wanted(trial.state, SMALL), wanted(trial.state, LARGE)) == (2, 2)


def test_a_task_that_runs_is_of_one_class_only(trial):
    trial.worker(memory_mib=100_000)
    queued(trial, 64_000)
    trial.claim()
    assert (running(trial.state, SMALL), running(trial.state, LARGE)) == (0, 1)


@pytest.mark.parametrize(("kind", "name"), [("user", "anna"), ("project", "kids")])
def test_what_nobody_may_run_is_not_wanted(trial, kind, name):
    trial.worker()
    allow(trial, kind, name, running=2)
    queued(trial, 100, 100, 100)
    queued(trial, 100, 100)
    assert wanted(trial.state, ANY) == 2
    trial.claim()
    assert (running(trial.state, ANY), allowed(trial.state, ANY)) == (1, 1)


def test_another_users_tasks_are_allowed_beside_a_limit(trial):
    allow(trial, "user", "anna", running=1)
    queued(trial, 100, 100)
    queued(trial, 100, 100, user="bert", project="vst")
    assert wanted(trial.state, ANY) == 3


def test_a_task_that_pauses_before_another_attempt_is_not_wanted_yet(trial):
    trial.worker()
    queued(trial, 100)
    trial.end(trial.claim()[0], failure(FailureCategory.INFRASTRUCTURE))
    assert wanted(trial.state, ANY) == 0
    trial.pass_time(3600.0)
    assert wanted(trial.state, ANY) == 1


def test_a_long_line_is_counted_by_what_its_first_tasks_need(trial):
    queued(trial, *[100] * (LOOKED_AT + 50))
    assert (wanted(trial.state, SMALL), wanted(trial.state, LARGE)) == (LOOKED_AT + 50, 0)


def test_a_trigger_names_its_tasks_and_its_slots():
    assert Trigger.read({}) == Trigger(Class(), 1)
    metadata = {"scalerAddress": "scheduler:47316", "aboveMib": "1000", "upToMib": "64000", "slots": "4"}
    assert Trigger.read(metadata) == Trigger(Class(above_mib=1_000, up_to_mib=64_000), 4)


@pytest.mark.parametrize(("key", "value"), [("slots", "0"), ("slots", "two"), ("aboveMib", "1 GiB")])
def test_a_trigger_that_makes_no_sense_is_named(key, value):
    with pytest.raises(ValueError, match=f"{key}='?{value}"):
        Trigger.read({key: value})
