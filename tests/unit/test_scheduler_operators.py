"""What operators decide, what a job waits for, and jobs that do again what others did."""

from collections import Counter

import pytest

from dpu.errors import Conflict, Exhausted, NotFound, UsageError
from dpud.scheduler import events, machine
from dpud.scheduler.commands import Cordon, Drain, Renew, Repeat, SetAllowance
from dpud.scheduler.demand import LOOKED_AT
from dpud.scheduler.explain import Explanation, Reason, Wait, explain
from dpud.scheduler.model import Allowance, FailureCategory, JobState, Party, TaskPlan, TaskState
from dpud.scheduler.repeats import first_failed
from dpud.scheduler.share import Usage
from dpud.scheduler.snapshot import dump_state, load_state
from fakes_scheduler import NOON, Trial, again, failure, plans, stages, submit


def allow(trial, kind, name, **figures):
    return trial.do(SetAllowance(party=Party(kind, name), allowance=Allowance(**figures), by="ruth"))


def repeat(trial, job, *, only_failed=False, **overrides):
    values = {"request_id": f"again {job}", "digest": "d", "user": "anna", "project": "kids"}
    old = trial.state.jobs[job]
    return trial.do(Repeat(**{**values, "job": old, **again(old.tasks, only_failed=only_failed), **overrides}))


def reasons(trial, job):
    return [(wait.reason, wait.tasks) for wait in explain(trial.state, trial.state.jobs[job], trial.now).waits]


# Allowances and cordons


def test_a_user_runs_no_more_than_allowed_in_one_claim_or_many():
    trial = Trial()
    trial.worker(slots=10)
    trial.submit(tasks=plans(*"abcde"))
    trial.submit(user="bert", tasks=plans(*"xyz"))
    allow(trial, "user", "anna", running=2)
    leases = [*trial.claim(room=3), *trial.claim(room=7)]
    assert Counter(trial.state.jobs[lease.job].user for lease in leases) == {"anna": 2, "bert": 3}
    trial.end(next(lease for lease in leases if lease.job == 1))
    assert [lease.job for lease in trial.claim(room=5)] == [1]
    assert trial.replayed() == trial.state


def test_a_project_runs_no_more_than_allowed_and_others_go_on():
    trial = Trial()
    trial.worker(slots=10)
    trial.submit(tasks=plans(*"abc"))
    trial.submit(user="bert", tasks=plans(*"abc"))
    trial.submit(project="atlas", tasks=plans("z"))
    allow(trial, "project", "kids", running=1)
    assert Counter(trial.state.jobs[lease.job].project for lease in trial.claim(room=10)) == {"kids": 1, "atlas": 1}


def test_who_has_twice_the_weight_gets_twice_as_much():
    trial = Trial()
    trial.worker(slots=100)
    for user in ("anna", "bert"):
        trial.submit(user=user, tasks=plans(*map(str, range(200))))
    allow(trial, "user", "anna", weight=2.0)
    granted = Counter(trial.state.jobs[lease.job].user for lease in trial.claim(room=150))
    # One lease in five goes by age alone, to each in turn; of the other 120 anna has two thirds.
    assert granted == {"anna": 95, "bert": 55}


def test_more_open_tasks_than_allowed_are_refused_until_some_have_ended():
    trial = Trial()
    trial.worker()
    allow(trial, "project", "kids", queued=3)
    trial.submit(tasks=plans("a", "b"))
    before = trial.replayed()
    with pytest.raises(Exhausted, match="project kids would have 4 open tasks and may have 3"):
        trial.submit(tasks=plans("c", "d"))
    assert trial.state == before
    trial.end(trial.claim()[0])
    assert trial.submit(tasks=plans("c", "d")) == 2


@pytest.mark.parametrize("party", [("user", "anna"), ("project", "kids")])
def test_more_bytes_in_open_jobs_than_allowed_are_refused_until_some_have_ended(party):
    trial = Trial()
    trial.worker()
    allow(trial, *party, queued_bytes=40)
    trial.submit(options=b"options", tasks=plans("a"))
    [lease] = trial.claim()
    trial.submit(options=b"options")
    before = trial.replayed()
    with pytest.raises(Exhausted, match=f"{party[1]} would have 41 bytes of options and tasks in open jobs and may"):
        trial.submit(options=b"options", tasks=plans("b"))
    assert trial.state == before
    # What a plan adds counts as well.
    trial.plan(trial.claim()[0], "a")
    with pytest.raises(Exhausted, match="would have 41 bytes"):
        trial.submit(options=b"options")
    trial.end(lease)
    trial.deliver()
    assert trial.submit(options=b"options", tasks=plans("b")) == 3
    assert trial.replayed() == trial.state


@pytest.mark.parametrize(
    "figures", [{"weight": 0.0}, {"weight": float("nan")}, {"running": -1}, {"queued": -1}, {"queued_bytes": -1}]
)
def test_nonsense_is_no_allowance(figures):
    trial = Trial()
    with pytest.raises(UsageError, match="must be (above 0|from 0 up)"):
        allow(trial, "user", "anna", **figures)
    with pytest.raises(UsageError, match="name one of them"):
        allow(trial, "project", "", running=1)


def test_the_usual_allowance_is_forgotten():
    trial = Trial()
    allow(trial, "user", "anna", running=1)
    assert allow(trial, "user", "anna", running=1) == []
    allow(trial, "user", "anna")
    assert trial.state.allowances == {}


def test_a_cordoned_worker_gets_nothing_and_may_end_what_it_has():
    trial = Trial()
    trial.worker()
    trial.submit(tasks=plans("a", "b"))
    [lease] = trial.claim()
    [cordoned] = trial.do(Cordon(worker="w1", cordoned=True, by="ruth"))
    assert cordoned == events.WorkerCordoned("w1", True, "ruth", NOON)
    assert trial.do(Cordon(worker="w1", cordoned=True, by="ruth")) == []
    assert trial.claim() == []
    trial.end(lease)
    trial.worker()
    assert trial.claim() == []
    trial.do(Cordon(worker="w1", cordoned=False, by="ruth"))
    assert len(trial.claim()) == 1
    with pytest.raises(UsageError, match="needs a name"):
        trial.do(Cordon(worker="", cordoned=True, by="ruth"))


def test_a_worker_that_is_drained_is_cordoned_and_told_once_per_session():
    trial = Trial()
    with pytest.raises(NotFound, match="there is no worker 'w1'"):
        trial.do(Drain(worker="w1", by="ruth"))
    trial.worker()
    trial.submit(tasks=plans("a", "b"))
    [lease] = trial.claim()
    [drained] = trial.do(Drain(worker="w1", by="ruth"))
    assert drained == events.WorkerCordoned("w1", True, "ruth", NOON, drained=True)
    assert trial.do(Drain(worker="w1", by="ruth")) == []
    assert trial.state.presence.sessions["s-w1"].draining
    assert trial.claim() == []
    trial.end(lease, failure(FailureCategory.WORKER_DRAINED))
    task = trial.state.jobs[1].tasks[0]
    assert (task.state, task.crashes, task.losses) == (TaskState.QUEUED, 0, 0)
    assert reasons(trial, 1) == [(Reason.NO_WORKER, 2)]
    [heard] = (event for event in trial.do(Renew(session="s-w1", draining=True)) if type(event) is events.DrainHeard)
    assert heard == events.DrainHeard("w1", NOON)
    # Started again under its name, it is there, gets nothing, and is not told to end.
    trial.worker()
    assert not trial.state.presence.sessions["s-w1"].draining
    assert trial.claim() == []
    trial.do(Cordon(worker="w1", cordoned=False, by="ruth"))
    assert len(trial.claim(room=2)) == 2
    assert trial.replayed() == trial.state


def test_a_drain_that_was_not_heard_is_told_to_the_next_session_and_not_after_the_cordon_is_lifted():
    trial = Trial()
    trial.worker()
    trial.do(Drain(worker="w1", by="ruth"))
    assert load_state(dump_state(trial.state)).draining == {"w1"}
    trial.state = trial.replayed()
    trial.worker()
    assert trial.state.presence.sessions["s-w1"].draining
    trial.do(Cordon(worker="w1", cordoned=False, by="ruth"))
    trial.worker()
    assert not trial.state.presence.sessions["s-w1"].draining
    assert trial.replayed() == trial.state


def test_why_no_worker_takes_tasks_is_said():
    trial = Trial()
    trial.submit(tasks=plans("a"))
    trial.worker("w2")
    trial.do(Drain(worker="w2", by="ruth"))
    [wait] = explain(trial.state, trial.state.jobs[1], NOON).waits
    assert wait.message == "waiting for a worker: the only worker is being drained"
    trial.worker()
    trial.worker("w2")
    trial.do(Cordon(worker="w1", cordoned=True, by="ruth"))
    trial.do(Drain(worker="w2", by="ruth"))
    [wait] = explain(trial.state, trial.state.jobs[1], NOON).waits
    assert wait.message == "waiting for a worker: all 2 workers are cordoned, 1 of them being drained"


# What a job waits for


def test_a_job_that_runs_and_waits_for_a_slot_says_both():
    trial = Trial()
    trial.worker(slots=1)
    trial.submit(tasks=plans("a", "b", "c"))
    trial.claim()
    assert explain(trial.state, trial.state.jobs[1], trial.now + 4) == Explanation(
        (Wait(Reason.RUNNING, 1, "running on w1"), Wait(Reason.SHARE, 2, "waiting for a free slot")), 1, NOON + 10
    )


def test_a_job_without_a_worker_says_so():
    trial = Trial()
    trial.submit(tasks=plans("a"))
    assert explain(trial.state, trial.state.jobs[1], NOON) == Explanation(
        (Wait(Reason.NO_WORKER, 1, "waiting for a worker: no worker is there"),), 1, 0.0
    )
    trial.worker()
    trial.do(Cordon(worker="w1", cordoned=True, by="ruth"))
    assert reasons(trial, 1) == [(Reason.NO_WORKER, 1)]


def test_a_task_bigger_than_every_worker_is_named():
    trial = Trial()
    trial.worker(memory_mib=1_000)
    trial.submit(tasks=(*plans("small"), *plans("big", memory_mib=64_000)))
    waits = explain(trial.state, trial.state.jobs[1], NOON).waits
    assert waits[0] == Wait(Reason.NO_MEMORY, 1, "waiting for 64000 MiB of memory: the largest worker has 1000 MiB")
    assert waits[1].reason is Reason.SHARE


def test_a_quota_that_is_used_up_is_named():
    trial = Trial()
    trial.worker()
    allow(trial, "user", "anna", running=1)
    trial.submit(tasks=plans("a", "b"))
    trial.claim(room=2)
    waits = explain(trial.state, trial.state.jobs[1], NOON).waits
    assert waits[1] == Wait(Reason.QUOTA, 1, "waiting, because user anna may run 1 at a time")


def test_a_pause_and_later_stages_are_named():
    trial = Trial()
    trial.worker()
    trial.submit(sequence=stages("A", "B"), tasks=plans("a"))
    [lease] = trial.claim()
    trial.end(lease, failure(FailureCategory.INFRASTRUCTURE))
    found = explain(trial.state, trial.state.jobs[1], NOON)
    assert [(wait.reason, wait.tasks) for wait in found.waits] == [(Reason.PAUSE, 1), (Reason.INPUTS, 0)]
    assert found.waits[1].message == "a later stage waits for what A makes"
    assert NOON + 1 <= found.may_start <= NOON + 1.5


def test_products_that_are_not_in_their_place_are_named():
    trial = Trial()
    trial.worker()
    trial.submit(tasks=plans("a"))
    trial.end(trial.claim()[0])
    assert [wait.message for wait in explain(trial.state, trial.state.jobs[1], NOON).waits] == [
        "waiting for an attempt's products to be in their place"
    ]


def test_the_position_counts_jobs_of_those_who_had_less_and_ones_own_earlier_ones():
    trial = Trial()
    trial.worker(slots=1)
    trial.submit(tasks=plans("a"))
    trial.claim()
    for user in ("bert", "anna", "anna", "cleo"):
        trial.submit(user=user, tasks=plans("b"))
    positions = {job.id: explain(trial.state, job, NOON).position for job in trial.state.jobs.values()}
    assert positions == {1: 0, 2: 1, 3: 3, 4: 4, 5: 1}


class Looked(list):
    """Tasks of a job that are looked at one by one, and counted."""

    seen = 0

    def __getitem__(self, number):
        self.seen += 1
        return super().__getitem__(number)

    def __iter__(self):
        raise AssertionError("all tasks of a job were walked")


def test_of_a_long_job_few_tasks_are_looked_at():
    trial = Trial()
    trial.worker(slots=3, memory_mib=1_000)
    small, big = plans(*["a"] * 300), plans(*["b"] * 700, memory_mib=64_000)
    trial.submit(tasks=(*big[:150], *small, *big[150:]))
    trial.submit(tasks=small)
    trial.claim(room=3)
    jobs = trial.state.jobs.values()
    for job in jobs:
        job.tasks = Looked(job.tasks)
    # What is beyond the first needs as much as the last of those.
    assert reasons(trial, 1) == [(Reason.NO_MEMORY, 150), (Reason.SHARE, 850)]
    assert reasons(trial, 2) == [(Reason.RUNNING, 3), (Reason.SHARE, 297)]
    assert max(job.tasks.seen for job in jobs) < LOOKED_AT + 20


class Asked(dict):
    """Jobs, of which it is counted how often one is looked at."""

    looks = 0

    def __getitem__(self, number):
        self.looks += 1
        return super().__getitem__(number)


def test_of_a_long_queue_few_jobs_are_looked_at():
    trial = Trial()
    trial.worker(slots=1)
    # Without a look at the invariants after each, which takes as long as the queue is.
    for number in range(2_000):
        user = "bert" if number % 3 else "cleo"
        machine.execute(
            trial.state, submit(user=user, request_id=f"r{number}", tasks=plans("a"), priority=number % 2), NOON
        )
    job = trial.state.jobs[trial.submit(tasks=plans("a"))]
    trial.state.usage[job.user] = Usage(1e6, NOON)
    trial.state.jobs = Asked(trial.state.jobs)
    found = explain(trial.state, job, NOON)
    assert found.position == 2_001
    assert found.may_start == pytest.approx(NOON + 2_000 * 10)
    assert trial.state.jobs.looks < 250


def test_an_ended_job_waits_for_nothing():
    trial = Trial()
    trial.cancel(trial.submit())
    trial.deliver()
    assert explain(trial.state, trial.state.jobs[1], NOON) == Explanation()


# Jobs that do again what others did


def ended(trial, *categories, **overrides):
    """Return a job whose tasks ended so."""
    job = trial.submit(tasks=plans(*"abcdefg"[: len(categories)]), **overrides)
    for lease, category in zip(trial.claim(room=len(categories)), categories, strict=True):
        trial.end(lease, failure(category) if category else None)
    trial.deliver()
    return job


def test_only_what_failed_is_done_again():
    trial = Trial()
    trial.worker(slots=9)
    ended(trial, None, FailureCategory.RECIPE, None, FailureCategory.TIME_LIMIT, priority=7)
    [again] = repeat(trial, 1, user="bert", only_failed=True)
    assert (again.job, again.user, again.priority, again.estimate_s) == (2, "bert", 7, 10.0)
    assert again.tasks == (TaskPlan("b", b"spec of b", 10.0, 100), TaskPlan("d", b"spec of d", 10.0, 100))
    assert repeat(trial, 1, user="bert", only_failed=True) == []
    with pytest.raises(Conflict, match="used for another job, 2"):
        repeat(trial, 1, user="bert", digest="other")


def test_all_of_a_job_is_done_again():
    trial = Trial()
    trial.worker(slots=9)
    ended(trial, None, FailureCategory.RECIPE)
    [again] = repeat(trial, 1)
    assert [task.label for task in again.tasks] == ["a", "b"]


def test_a_repetition_begins_with_the_first_stage_that_failed():
    trial = Trial()
    trial.worker(slots=9)
    job = trial.submit(sequence=stages("A", "B", "C"))
    trial.plan(trial.claim()[0], "a")
    trial.end(trial.claim()[0])
    trial.deliver()
    trial.plan(trial.claim()[0], "x", "y")
    good, bad = trial.claim(room=2)
    trial.end(good)
    trial.end(bad, failure())
    trial.deliver()
    assert trial.state.jobs[job].state is JobState.FAILED
    [again] = repeat(trial, job, only_failed=True)
    assert ([stage.recipe for stage in again.stages], [task.label for task in again.tasks]) == (["B", "C"], ["y"])
    [whole] = repeat(trial, job, request_id="whole")
    assert ([stage.recipe for stage in whole.stages], whole.tasks) == (["A", "B", "C"], ())


def test_a_plan_that_failed_is_made_again():
    trial = Trial()
    trial.worker()
    trial.submit()
    trial.end(trial.claim()[0], failure())
    trial.deliver()
    assert repeat(trial, 1, only_failed=True)[0].tasks == ()


def test_a_task_keeps_the_memory_that_it_turned_out_to_need():
    trial = Trial()
    trial.worker()
    trial.submit(tasks=plans("a"))
    trial.end(trial.claim()[0], failure(FailureCategory.OUT_OF_MEMORY))
    trial.end(trial.claim()[0], failure())
    trial.deliver()
    assert repeat(trial, 1, only_failed=True)[0].tasks[0].memory_mib == 200


def test_there_must_be_something_to_do_again():
    trial = Trial()
    trial.worker()
    ended(trial, None)
    assert first_failed(trial.state.jobs[1].tasks) is None
    trial.submit(tasks=plans("a"))
    with pytest.raises(UsageError, match="job 2 has not ended"):
        repeat(trial, 2)
