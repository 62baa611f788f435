"""Estimates and memory of tasks come from earlier ones, where there were any."""

import pytest

from dpud.scheduler import codec, experience, machine
from dpud.scheduler.catalogue import Stage
from dpud.scheduler.commands import Repeat
from dpud.scheduler.experience import Figures, Kind
from dpud.scheduler.model import FailureCategory, Limits
from dpud.scheduler.snapshot import dump_state, load_state
from fakes_scheduler import BIAS, Trial, again, failure, plans, stages, submit

WFI = {"instrument": "WFI"}


def run(trial, seconds, *, given=WFI, **overrides):
    """Run a job of one task that takes so long; return the job."""
    job = trial.submit(sequence=BIAS, given=given, tasks=plans("a"), **overrides)
    trial.end(trial.claim()[0], run_s=seconds)
    trial.deliver()
    return job


@pytest.fixture
def trial():
    trial = Trial()
    trial.worker(slots=2)
    return trial


def estimate(trial, **overrides):
    return trial.state.jobs[trial.submit(**{"sequence": BIAS, "given": WFI, **overrides})].estimate_s


def test_until_something_ran_the_declared_figure_counts(trial):
    assert estimate(trial) == 10.0
    assert estimate(trial, tasks=plans(*"abcd")) == 20.0


def test_an_estimate_is_what_tasks_of_the_same_recipe_and_instrument_took(trial):
    for seconds in (30.0, 50.0):
        run(trial, seconds)
    assert estimate(trial) == 40.0
    assert estimate(trial, tasks=plans(*"abcd")) == 80.0
    assert estimate(trial, tasks=plans("a", seconds=7.0)) == 7.0
    assert estimate(trial, given={"instrument": "OMEGACAM"}) == 10.0
    assert estimate(trial, given={}) == 10.0
    assert estimate(trial, project="atlas") == 10.0


def test_what_failed_is_no_guide_to_how_long_it_takes(trial):
    trial.submit(sequence=BIAS, given=WFI, tasks=plans("a"))
    trial.end(trial.claim()[0], failure(), run_s=500.0)
    trial.deliver()
    assert estimate(trial) == 10.0


def test_a_plan_and_the_stages_after_it_are_estimated_by_what_they_took(trial):
    trial.submit(sequence=stages("A", "B"))
    for _ in range(2):
        trial.plan(trial.claim()[0], "a")
        trial.end(trial.claim()[0], run_s=4.0)
        trial.deliver()
    assert estimate(trial, sequence=stages("A", "B"), given={}) == 8.0
    job = trial.state.next_job - 1
    trial.plan(trial.claim()[0], *"abcd")
    assert trial.state.jobs[job].estimate_s == 2 * 4.0 + 4.0
    old = trial.state.jobs[1]
    [taken] = trial.do(Repeat(request_id="x", digest="x", user="anna", project="kids", job=old, **again(old.tasks)))
    assert taken.estimate_s == 8.0


def test_a_task_is_charged_by_what_its_like_took(trial):
    run(trial, 300.0)
    trial.submit(sequence=BIAS, given=WFI, tasks=plans("a"))
    assert trial.claim()[0].charge == 300.0


def test_memory_that_was_not_enough_is_remembered_when_more_was(trial):
    trial.submit(sequence=BIAS, given=WFI, tasks=plans("a"))
    for _ in range(2):
        trial.end(trial.claim()[0], failure(FailureCategory.OUT_OF_MEMORY))
    assert trial.state.experience == {}
    trial.end(trial.claim()[0])
    trial.submit(sequence=BIAS, given=WFI, tasks=plans("b", "c", memory_mib=1_000))
    trial.submit(sequence=BIAS, given=WFI, tasks=plans("d"))
    trial.submit(sequence=BIAS, given=WFI, tasks=plans("e"), limits=Limits(memory_mib=50))
    trial.submit(sequence=BIAS, given={"instrument": "OMEGACAM"}, tasks=plans("f"))
    memory = {task.label: task.memory_mib for job in trial.state.jobs.values() for task in job.tasks}
    assert memory == {"a": 400, "b": 1_000, "c": 1_000, "d": 400, "e": 50, "f": 100}


def test_a_recipe_that_never_has_enough_teaches_nothing(trial):
    trial.submit(sequence=BIAS, given=WFI, tasks=plans("a"))
    while trial.state.jobs[1].counts.open:
        trial.end(trial.claim()[0], failure(FailureCategory.OUT_OF_MEMORY))
    assert trial.state.jobs[1].tasks[0].memory_mib == 10_000
    assert trial.state.experience == {}


def test_what_was_learnt_outlives_replays_and_snapshots(trial):
    run(trial, 30.0)
    run(trial, 40.0, given={})
    state = trial.replayed()
    for event in codec.load_events(codec.dump_events(trial.happened)):
        assert event in trial.happened
    assert state.experience == trial.state.experience
    assert list(load_state(dump_state(state)).experience.items()) == list(state.experience.items())
    assert (
        machine.decide(state, submit(sequence=BIAS, given=WFI, request_id="another"), trial.now)[0].estimate_s == 30.0
    )


def test_a_mean_goes_back_over_recent_tasks():
    figures = Figures()
    for _ in range(100):
        figures = figures.after(10.0, 0)
    assert figures == Figures(10.0, experience.RECENT)
    assert figures.after(30.0, 0).seconds == 11.0


def test_the_kind_that_was_met_longest_ago_is_forgotten_first(monkeypatch):
    monkeypatch.setattr(experience, "MAX_KINDS", 2)
    known = {}
    for recipe in ("A", "B", "A", "C"):
        experience.learn(known, Kind("kids", recipe, "WFI"), 1.0)
    assert [kind.recipe for kind in known] == ["A", "C"]
    assert experience.seconds_of(known, Kind("kids", "B", "WFI"), Stage("B", seconds=5.0)) == 5.0
