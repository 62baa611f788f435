from dataclasses import replace

import pytest

from dpu.errors import Exhausted, StaleLease, Unreachable, UsageError
from dpud.scheduler import codec, deposits, machine
from dpud.scheduler.commands import Abandon, Deposit, Plan, SetAllowance
from dpud.scheduler.model import Allowance, JobState, Limits, Party, State
from dpud.scheduler.snapshot import dump_state, load_state
from dpud.scheduler.waiting import Queue
from fakes_scheduler import Trial, plans, report, stages


def laid_down(trial, *labels, key="k", before=0, **overrides):
    trial.do(Deposit(key=key, before=before, tasks=plans(*labels, **overrides)))


def labels(trial, job):
    return [task.label for task in trial.state.jobs[job].tasks]


def test_a_job_has_what_was_laid_down_and_then_what_it_came_with():
    trial = Trial()
    laid_down(trial, "a", "b")
    laid_down(trial, "c", before=2)
    assert not trial.state.jobs
    job = trial.submit(deposit="k", tasks=plans("d"))
    assert labels(trial, job) == ["a", "b", "c", "d"]
    assert [task.spec for task in trial.state.jobs[job].tasks][1:3] == [b"spec of b", b"spec of c"]
    assert trial.counts(job) == "0/0/0/4/0"
    assert trial.state.jobs[job].size == sum(len(f"spec of {label}{label}") for label in "abcd")
    assert trial.state.deposits == {}


def test_what_a_plan_left_open_is_as_the_stage_has_it_when_the_job_is_taken():
    trial = Trial()
    laid_down(trial, "a", seconds=3.0, memory_mib=7)
    laid_down(trial, "b", before=1)
    open_job = trial.submit(deposit="k")
    assert [(task.seconds, task.memory_mib) for task in trial.state.jobs[open_job].tasks] == [(3.0, 7), (10.0, 100)]
    laid_down(trial, "a", memory_mib=7)
    limited = trial.submit(deposit="k", limits=Limits(memory_mib=50))
    assert [task.memory_mib for task in trial.state.jobs[limited].tasks] == [50]


def test_the_answer_of_a_plan_can_be_laid_down_too():
    trial = Trial()
    trial.worker()
    job = trial.submit(sequence=stages("A", "B"))
    [lease] = trial.claim()
    laid_down(trial, "a", "b")
    trial.do(Plan(report=report(lease), tasks=plans("c"), deposit="k"))
    assert labels(trial, job) == ["plan", "a", "b", "c"]
    assert [task.stage for task in trial.state.jobs[job].tasks] == [0] * 4
    # The same answer again, because the first got lost, changes nothing.
    laid_down(trial, "a", "b", key="again")
    assert trial.do(Plan(report=report(lease), tasks=plans("c"), deposit="again")) == []
    with pytest.raises(StaleLease):
        trial.do(Plan(report=report(replace(lease, attempt=2)), tasks=(), deposit="again"))
    assert "again" in trial.state.deposits


def test_a_part_that_is_missing_is_noticed():
    trial = Trial()
    laid_down(trial, "a")
    for before in (0, 2):
        with pytest.raises(Unreachable, match="a part of the list of tasks is missing"):
            laid_down(trial, "b", before=before)
    with pytest.raises(Unreachable, match="a part of the list of tasks is missing"):
        laid_down(trial, "b", key="other", before=1)


def test_too_many_tasks_and_impossible_ones_are_refused_and_nothing_changes():
    trial = Trial()
    laid_down(trial, *["a"] * 60_000)
    with pytest.raises(UsageError, match="120000 tasks are too many for one job: at most 100000; select less"):
        laid_down(trial, *["a"] * 60_000, before=60_000)
    with pytest.raises(UsageError, match="task 'b': nan s is no time to run"):
        laid_down(trial, "b", before=60_000, seconds=float("nan"))
    with pytest.raises(UsageError, match="task 'b': -1 MiB"):
        laid_down(trial, "b", before=60_000, memory_mib=-1)
    with pytest.raises(UsageError, match="100001 tasks are too many"):
        trial.submit(deposit="k", tasks=plans(*["a"] * 40_001))
    assert len(trial.state.deposits["k"].tasks) == 60_000
    assert not trial.state.jobs


def test_what_was_laid_down_counts_in_what_one_may_have():
    trial = Trial()
    trial.do(SetAllowance(party=Party("user", "anna"), allowance=Allowance(queued=2), by="ruth"))
    laid_down(trial, "a", "b")
    with pytest.raises(Exhausted, match="user anna would have 3 open tasks and may have 2"):
        trial.submit(deposit="k", tasks=plans("c"))
    trial.do(SetAllowance(party=Party("user", "anna"), allowance=Allowance(queued_bytes=21), by="ruth"))
    with pytest.raises(Exhausted, match="would have 30 bytes"):
        trial.submit(deposit="k", tasks=plans("c"))
    trial.do(SetAllowance(party=Party("user", "anna"), allowance=Allowance(queued_bytes=30), by="ruth"))
    trial.submit(deposit="k", tasks=plans("c"))


def test_what_nobody_goes_on_with_is_dropped():
    trial = Trial()
    laid_down(trial, "a")
    laid_down(trial, "x", key="l")
    trial.pass_time(deposits.TERM_S - 1)
    laid_down(trial, "b", before=1)
    trial.pass_time(1)
    assert list(trial.state.deposits) == ["k"]
    trial.do(Abandon("k"))
    with pytest.raises(Unreachable, match="given up meanwhile: send it again"):
        trial.submit(deposit="k")
    assert trial.state == State()


def test_a_list_that_is_arriving_outlives_a_restart_and_a_snapshot():
    trial = Trial()
    laid_down(trial, "å", "b", seconds=2.5)
    assert load_state(dump_state(trial.state)) == trial.state
    state = State()
    for event in codec.load_events(codec.dump_events(trial.happened)):
        machine.apply(state, event)
    assert state == trial.state
    trial.state = state
    assert labels(trial, trial.submit(deposit="k")) == ["å", "b"]


def test_a_long_job_that_waits_is_cancelled_at_once_and_what_runs_goes_on_to_its_end():
    trial = Trial()
    trial.worker()
    laid_down(trial, *"abcdef")
    job = trial.submit(deposit="k")
    leases = trial.claim(room=2)
    trial.cancel(job)
    assert trial.counts(job) == "0/0/4/2/0"
    assert not trial.state.waiting.lines
    for lease in leases:
        trial.end(lease)
    trial.deliver()
    assert trial.state.jobs[job].state is JobState.CANCELLED


def test_a_queue_keeps_its_order_whatever_is_taken_out_and_comes_back():
    queue = Queue()
    queue.add(range(1, 6))
    assert list(queue) == [1, 2, 3, 4, 5]
    queue.remove(3)
    assert list(queue) == [1, 2, 4, 5]
    assert 3 not in queue
    queue.remove(1)
    queue.add((1,))
    queue.add((3,))
    assert list(queue) == [2, 4, 5, 1, 3]
    assert len(queue) == 5
    queue.remove(2)
    queue.remove(3)
    assert list(queue) == [4, 5, 1]
    assert queue != Queue()
    with pytest.raises(KeyError):
        queue.remove(3)
    for task in (5, 4, 1):
        queue.remove(task)
    assert not queue
    queue.add(range(7, 9))
    assert list(queue) == [7, 8]
