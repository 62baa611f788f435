import pytest

from dpu.errors import Conflict, NotAllowed, NotFound, StaleLease, UnknownSession, UsageError
from dpud.scheduler import events, machine
from dpud.scheduler.commands import Plan, Register, Resume, Retire
from dpud.scheduler.model import (
    Cancellation,
    FailureCategory,
    JobState,
    Key,
    Limits,
    State,
    TaskState,
)
from fakes_scheduler import BIAS, NOON, Trial, failure, plans, ref_of, renewal, report, stages, submit


@pytest.fixture
def trial():
    trial = Trial()
    trial.worker()
    return trial


def test_a_job_is_taken_with_the_plan_of_its_first_stage(trial):
    assert trial.do(submit()) == [
        events.JobSubmitted(
            job=1,
            at=NOON,
            request_id="r1",
            digest="d1",
            user="anna",
            project="kids",
            sequence="Bias",
            stages=BIAS.stages,
            options=b"",
            code_digest="",
            limits=Limits(),
            priority=0,
            commit=False,
            estimate_s=10.0,
        )
    ]
    assert trial.counts(1) == "0/0/0/1/0"
    assert trial.state.jobs[1].tasks[0].plan


def test_explicit_tasks_need_no_plan(trial):
    job = trial.submit(tasks=plans("a", "b", "c", "d", "e"))
    assert trial.counts(job) == "0/0/0/5/0"
    assert trial.state.jobs[job].estimate_s == 20.0  # 5 tasks of 10 s on 4 slots


def test_the_same_request_gives_the_same_job_and_other_content_is_a_conflict(trial):
    trial.do(submit())
    assert trial.do(submit()) == []
    with pytest.raises(Conflict, match="request_id 'r1' was used for another job, 1"):
        trial.do(submit(digest="d2"))
    assert list(trial.state.jobs) == [1]


def test_a_request_is_remembered_for_a_day(trial):
    trial.do(submit())
    trial.now += 86_400
    trial.do(submit(digest="d2"))
    assert list(trial.state.jobs) == [1, 2]
    trial.now += 86_400
    trial.do(submit(request_id="r2"))
    assert list(trial.state.requests) == [("kids", "anna", "r2")]


def test_a_request_id_is_one_users_own(trial):
    trial.do(submit())
    trial.do(submit(user="bert", digest="d2"))
    assert list(trial.state.jobs) == [1, 2]


def test_too_many_tasks_are_refused_and_change_nothing(trial):
    with pytest.raises(UsageError, match="100001 tasks are too many for one job: at most 100000"):
        trial.do(submit(tasks=plans("a") * 100_001))
    assert trial.state.jobs == {}


def test_a_lease_carries_attempt_token_and_charge(trial):
    job = trial.submit(tasks=plans("a", seconds=7.0))
    assert trial.claim() == [events.TaskLeased(job, 0, 1, NOON, "n1.0", "w1", 7.0)]
    assert trial.state.jobs[job].state is JobState.RUNNING
    assert trial.counts(job) == "0/0/0/1/0"


def test_a_planned_job_runs_to_its_end(trial):
    job = trial.submit(commit=True)
    [plan] = trial.claim(room=4)
    trial.plan(plan, "ccd50", "ccd51")
    assert trial.counts(job) == "0/0/0/2/0"
    first, second = trial.claim(room=4)
    trial.end(first)
    trial.end(second)
    assert trial.counts(job) == "2/0/0/0/0"
    assert trial.state.jobs[job].state is JobState.RUNNING
    assert trial.outbox() == [
        ("close_task", job, 0, 1),
        ("publish", job, 1, 1),
        ("close_task", job, 1, 1),
        ("publish", job, 2, 1),
        ("close_task", job, 2, 1),
    ]
    trial.deliver()
    assert trial.state.jobs[job].state is JobState.FINISHED
    assert trial.happened[-2:] == [events.EntriesDelivered((6,)), events.JobEnded(job, NOON)]


def test_a_job_is_finished_only_when_its_outbox_is_empty(trial):
    job = trial.submit(tasks=plans("a"))
    trial.end(trial.claim()[0])
    publish, close = trial.state.outbox
    trial.do(machine.commands.Acknowledge((publish,)))
    assert trial.state.jobs[job].outcome is JobState.FINISHED
    assert trial.state.jobs[job].state is JobState.RUNNING
    trial.do(machine.commands.Acknowledge((close,)))
    assert trial.outbox() == [("close_job", job, 0, 0)]
    trial.deliver()
    assert trial.state.jobs[job].state is JobState.FINISHED


def test_where_the_logs_are_here_a_job_ends_before_they_have_acknowledged_it(trial):
    trial.state.presence.logs_here = True
    job = trial.submit(tasks=plans("a"))
    trial.end(trial.claim()[0], products=0)
    assert trial.state.jobs[job].state is JobState.FINISHED
    assert trial.outbox() == [("close_task", job, 0, 1), ("close_job", job, 0, 0)]
    assert trial.do(machine.commands.Retire(0)) == []
    trial.deliver()
    assert trial.do(machine.commands.Retire(0)) == [events.JobsRetired((job,))]


def test_where_the_logs_are_here_a_job_still_waits_for_its_products(trial):
    trial.state.presence.logs_here = True
    job = trial.submit(tasks=plans("a"))
    trial.end(trial.claim()[0])
    publish, _ = trial.state.outbox
    assert trial.state.jobs[job].state is JobState.RUNNING
    trial.do(machine.commands.Acknowledge((publish,)))
    assert trial.state.jobs[job].state is JobState.FINISHED


def test_without_products_nothing_is_published(trial):
    trial.submit(tasks=plans("a"))
    trial.end(trial.claim()[0], products=0)
    assert [errand for errand, *_ in trial.outbox()] == ["close_task", "close_job"]


def test_a_repeated_report_changes_nothing(trial):
    trial.submit(tasks=plans("a", "b"))
    [lease] = trial.claim()
    assert trial.end(lease)
    assert trial.end(lease) == []


def test_an_empty_plan_ends_well(trial):
    job = trial.submit()
    trial.plan(trial.claim()[0])
    trial.deliver()
    assert trial.state.jobs[job].state is JobState.FINISHED
    assert trial.counts(job) == "0/0/0/0/0"


def test_a_failed_plan_is_an_error(trial):
    job = trial.submit()
    trial.end(trial.claim()[0], failure(message="no raw biases"))
    trial.deliver()
    assert trial.counts(job) == "0/1/0/0/0"
    assert trial.state.jobs[job].state is JobState.FAILED
    assert trial.state.jobs[job].failure == failure(message="no raw biases")


def test_a_repeated_plan_changes_nothing_and_a_stale_one_is_refused(trial):
    trial.submit()
    [lease] = trial.claim()
    assert trial.plan(lease, "a")
    assert trial.plan(lease, "a") == []
    trial.submit()
    [lapsed] = [lease for lease in trial.claim(room=2) if lease.job == 2]
    trial.pass_time(30)
    with pytest.raises(StaleLease, match="task 0 of job 2 is no longer leased by this token"):
        trial.plan(lapsed, "a")


def test_a_plan_that_is_too_large_changes_nothing(trial):
    job = trial.submit()
    [lease] = trial.claim()
    with pytest.raises(UsageError, match="too many"):
        trial.do(Plan(report=report(lease), tasks=plans("a") * 100_000))
    assert trial.counts(job) == "0/0/0/1/0"


def test_a_plan_ended_without_tasks_is_the_workers_fault(trial):
    job = trial.submit()
    trial.end(trial.claim()[0])
    assert trial.state.jobs[job].failure.category is FailureCategory.CODE


def test_the_next_stage_is_planned_when_the_products_of_the_one_before_are_in_place(trial):
    job = trial.submit(sequence=stages("Reduce", "Coadd"))
    trial.plan(trial.claim()[0], "a")
    trial.end(trial.claim()[0])
    assert trial.claim() == []
    trial.deliver()
    [plan] = trial.claim()
    assert trial.state.jobs[job].tasks[plan.task].stage == 1
    trial.plan(plan, "b")
    trial.end(trial.claim()[0])
    trial.deliver()
    assert trial.counts(job) == "2/0/0/0/0"
    assert trial.state.jobs[job].state is JobState.FINISHED


@pytest.mark.parametrize(
    ("partial", "failing", "counts"),
    [(True, 1, "2/1/0/0/0"), (False, 1, "1/1/2/0/0"), (True, 2, "0/2/2/0/0")],
)
def test_a_stage_goes_on_with_what_succeeded_only_where_it_may(trial, partial, failing, counts):
    job = trial.submit(sequence=stages("Reduce", "Regrid", "Coadd", partial=partial), tasks=plans("a", "b"))
    for number, lease in enumerate(trial.claim(room=2)):
        trial.end(lease, failure() if number < failing else None)
    trial.deliver()
    for label in "cd":
        for plan in trial.claim():
            trial.plan(plan, *(["e"] if label == "c" else []))
            for lease in trial.claim():
                trial.end(lease)
            trial.deliver()
    assert trial.counts(job) == counts
    assert trial.state.jobs[job].state is JobState.FAILED


def test_a_lapsed_lease_is_offered_again_and_unknown_until_then(trial):
    job = trial.submit(tasks=plans("a"))
    [lease] = trial.claim()
    assert trial.pass_time(29.9) == []
    lost = trial.pass_time(0.1)
    assert [type(event) for event in lost] == [events.TaskRequeued]
    assert trial.counts(job) == "0/0/0/0/1"
    assert trial.outbox() == [("discard", job, 0, 1), ("close_task", job, 0, 1)]
    assert trial.end(lease) == []
    [second] = trial.claim()
    assert (second.attempt, trial.counts(job)) == (2, "0/0/0/1/0")


def test_a_renewed_lease_stands_for_another_term(trial):
    trial.submit(tasks=plans("a"))
    [lease] = trial.claim()
    trial.now += 29
    trial.do(renewal("s-w1", lease))
    assert trial.pass_time(29.9) == []
    assert trial.pass_time(0.1) != []


def test_a_task_whose_workers_are_lost_again_and_again_fails(trial):
    job = trial.submit(tasks=plans("a"))
    for _ in range(6):
        trial.worker()
        trial.claim()
        trial.pass_time(30)
    assert trial.counts(job) == "0/1/0/0/0"
    assert "given up after 6 attempts" in trial.state.jobs[job].failure.message


def test_lapses_after_the_scheduler_was_away_are_charged_to_nobody(trial):
    job = trial.submit(tasks=plans("a"))
    [lease] = trial.claim()
    trial.now += 1000
    trial.do(Resume())
    assert trial.pass_time(29.9) == []
    trial.pass_time(0.1)
    task = trial.state.jobs[job].tasks[0]
    assert (task.state, task.losses) == (TaskState.LOST, 0)
    assert not trial.state.holds(ref_of(lease), lease.token)


@pytest.mark.parametrize("category", [FailureCategory.RECIPE, FailureCategory.CODE, FailureCategory.TIME_LIMIT])
def test_a_failure_of_the_tasks_own_is_not_tried_again(trial, category):
    job = trial.submit(tasks=plans("a"))
    trial.end(trial.claim()[0], failure(category))
    assert trial.counts(job) == "0/1/0/0/0"


def test_infrastructure_is_tried_again_after_growing_pauses(trial):
    trial.submit(tasks=plans("a"))
    pauses = []
    for _ in range(5):
        [ended] = trial.end(trial.claim()[0], failure(FailureCategory.INFRASTRUCTURE))
        pauses.append(ended.due - ended.at)
        assert trial.claim() == []
        trial.worker()
        trial.pass_time(pauses[-1])
    assert [1 <= pause / 2**number <= 1.5 for number, pause in enumerate(pauses)] == [True] * 5
    trial.end(trial.claim()[0], failure(FailureCategory.INFRASTRUCTURE))
    assert trial.counts(1) == "0/1/0/0/0"


@pytest.mark.parametrize(("alone", "attempts"), [(True, 3), (False, 4)])
def test_a_task_that_crashed_three_times_alone_is_set_aside(trial, alone, attempts):
    job = trial.submit(tasks=plans("a"))
    for _ in range(attempts):
        assert trial.counts(job) == "0/0/0/1/0"
        trial.end(trial.claim()[0], failure(FailureCategory.CRASH, "signal 11"), alone=alone)
        trial.pass_time(5)
    assert trial.counts(job) == "0/1/0/0/0"
    message = "signal 11 (set aside after 3 crashes alone in a process)"
    assert trial.state.jobs[job].failure == failure(FailureCategory.CRASH, message)


def test_a_crash_beside_others_makes_a_suspect_and_is_charged_to_nobody(trial):
    trial.submit(tasks=plans("a"))
    trial.end(trial.claim()[0], failure(FailureCategory.CRASH))
    task = trial.state.jobs[1].tasks[0]
    assert (task.is_suspect, task.crashes) == (True, 0)
    trial.pass_time(5)
    [lease] = trial.claim()
    assert task.is_suspect
    trial.end(lease)
    assert (task.is_suspect, trial.counts(1)) == (False, "1/0/0/0/0")


def test_a_drained_worker_hands_back_without_a_charge(trial):
    job = trial.submit(tasks=plans("a"))
    for _ in range(10):
        trial.end(trial.claim()[0], failure(FailureCategory.WORKER_DRAINED))
    task = trial.state.jobs[job].tasks[0]
    assert (task.losses, task.crashes, task.state) == (0, 0, TaskState.QUEUED)


def test_out_of_memory_gets_twice_as_much_up_to_the_largest_worker(trial):
    job = trial.submit(tasks=plans("a", memory_mib=3_000))
    given = []
    for _ in range(3):
        trial.end(trial.claim()[0], failure(FailureCategory.OUT_OF_MEMORY))
        given.append(trial.state.jobs[job].tasks[0].memory_mib)
    assert given == [6_000, 10_000, 10_000]
    assert "the largest worker has 10000 MiB" in trial.state.jobs[job].failure.message


def test_a_limit_of_the_users_own_is_not_raised(trial):
    job = trial.submit(tasks=plans("a"), limits=Limits(memory_mib=500))
    trial.end(trial.claim()[0], failure(FailureCategory.OUT_OF_MEMORY))
    assert "it may use 500 MiB (dpu_mem)" in trial.state.jobs[job].failure.message


def test_cancel_takes_what_waits_and_reaches_what_runs(trial):
    job = trial.submit(tasks=plans("a", "b"))
    [lease] = trial.claim()
    assert trial.cancel(job, reason="wrong night") == [
        events.JobCancelRequested(job, Cancellation("anna", "wrong night", NOON))
    ]
    assert (trial.counts(job), trial.state.jobs[job].state) == ("0/0/1/1/0", JobState.CANCELLING)
    trial.end(lease, failure(FailureCategory.CANCELLED))
    trial.deliver()
    assert (trial.counts(job), trial.state.jobs[job].state) == ("0/0/2/0/0", JobState.CANCELLED)


def test_a_second_cancel_changes_nothing(trial):
    job = trial.submit(tasks=plans("a"))
    trial.claim()
    trial.cancel(job, reason="first")
    assert trial.cancel(job, reason="second") == []
    assert trial.state.jobs[job].cancellation.reason == "first"


def test_a_queued_job_is_cancelled_at_once(trial):
    job = trial.submit()
    trial.cancel(job)
    trial.deliver()
    assert (trial.counts(job), trial.state.jobs[job].state) == ("0/0/1/0/0", JobState.CANCELLED)
    assert trial.claim() == []


def test_a_task_that_finishes_before_its_cancel_reaches_it_counts_as_normal(trial):
    job = trial.submit(tasks=plans("a"))
    [lease] = trial.claim()
    trial.cancel(job)
    trial.end(lease)
    trial.deliver()
    assert (trial.counts(job), trial.state.jobs[job].state) == ("1/0/0/0/0", JobState.CANCELLED)


def test_the_plan_of_a_cancelled_job_makes_no_tasks(trial):
    job = trial.submit()
    [lease] = trial.claim()
    trial.cancel(job)
    trial.plan(lease, "a", "b")
    trial.deliver()
    assert (trial.counts(job), trial.state.jobs[job].state) == ("0/0/1/0/0", JobState.CANCELLED)


def test_a_lost_task_of_a_cancelled_job_is_not_tried_again(trial):
    job = trial.submit(tasks=plans("a"))
    trial.claim()
    trial.cancel(job)
    trial.pass_time(30)
    assert trial.counts(job) == "0/0/1/0/0"


def test_cancelling_a_settled_job_changes_nothing(trial):
    job = trial.submit(tasks=plans("a"))
    trial.end(trial.claim()[0])
    trial.deliver()
    assert trial.cancel(job) == []
    assert trial.state.jobs[job].state is JobState.FINISHED


def test_a_delayed_task_is_cancelled_too(trial):
    job = trial.submit(tasks=plans("a"))
    trial.end(trial.claim()[0], failure(FailureCategory.INFRASTRUCTURE))
    trial.cancel(job)
    assert (trial.counts(job), trial.state.delayed) == ("0/0/1/0/0", {})


def test_only_its_owner_or_an_operator_cancels_a_job(trial):
    job = trial.submit()
    with pytest.raises(NotAllowed, match="only anna or an operator may cancel it"):
        trial.cancel(job, by="bert")
    with pytest.raises(NotFound, match="no job 1 in project 'atlas'"):
        trial.cancel(job, project="atlas", operator=True)
    assert trial.cancel(job, by="bert", operator=True)


def test_a_new_session_keeps_what_it_names_and_loses_the_rest(trial):
    job = trial.submit(tasks=plans("a", "b"))
    kept, gone = trial.claim(room=2)
    trial.do(Register(session="again", worker="w1", slots=4, memory_mib=1000))
    with pytest.raises(UnknownSession, match="register anew"):
        trial.claim("s-w1")
    trial.do(renewal("again", kept))
    assert trial.state.holds(ref_of(kept), kept.token)
    assert not trial.state.holds(ref_of(gone), gone.token)
    assert trial.counts(job) == "0/0/0/1/1"


def test_a_later_call_may_leave_out_a_lease_whose_answer_it_has_not_seen(trial):
    trial.submit(tasks=plans("a", "b"))
    kept, crossing = trial.claim(room=2)
    trial.do(renewal("s-w1", kept))
    assert trial.state.holds(ref_of(crossing), crossing.token)


def test_a_silent_session_is_closed(trial):
    trial.pass_time(90)
    assert trial.state.presence.sessions == {}


def test_plan_tasks_come_first_of_their_users(trial):
    trial.submit(tasks=plans("a", "b"), priority=50)
    planned = trial.submit()
    assert [lease.job for lease in trial.claim(room=3)] == [planned, 1, 1]


def test_priority_goes_before_age_within_a_users_own(trial):
    for priority in (0, 5, -5, 5):
        trial.submit(tasks=plans("a"), priority=priority)
    assert [lease.job for lease in trial.claim(room=4)] == [2, 4, 1, 3]


def test_users_share_by_what_they_had_and_one_in_five_goes_by_age(trial):
    trial.submit(user="anna", tasks=plans(*"abcdefghij"))
    trial.submit(user="bert", tasks=plans(*"abcdefghij"))
    users = [trial.state.jobs[lease.job].user[0] for lease in trial.claim(room=10)]
    assert "".join(users) == "ababaababb"
    trial.submit(user="cleo", tasks=plans("a", "b"))
    assert [lease.job for lease in trial.claim(room=2)] == [3, 3]


def test_what_was_used_yesterday_counts_half(trial):
    trial.submit(tasks=plans("a"))
    trial.end(trial.claim()[0], run_s=100.0)
    usage = trial.state.usage["anna"]
    assert usage.decayed(trial.now) == pytest.approx(100.0)
    assert usage.decayed(trial.now + 86_400) == pytest.approx(50.0)


def test_a_task_that_does_not_fit_the_memory_waits_and_others_go(trial):
    trial.submit(tasks=plans("big", memory_mib=5_000))
    small = trial.submit(tasks=plans("a", "b", memory_mib=600))
    assert [lease.job for lease in trial.claim(room=4, memory_mib=1_000)] == [small]


def test_retired_jobs_leave_the_memory_oldest_end_first(trial):
    for _ in range(3):
        trial.submit(tasks=plans("a"))
    for lease in reversed(trial.claim(room=3)):
        trial.end(lease)
        trial.deliver()
    assert trial.do(Retire(1)) == [events.JobsRetired((3, 2))]
    assert list(trial.state.jobs) == [1]


def test_identifiers_grow_for_ever(trial):
    trial.cancel(trial.submit())
    trial.deliver()
    trial.do(Retire(0))
    assert trial.submit() == 2
    assert trial.replayed().next_job == 3


def test_replaying_gives_the_state(trial):
    trial.submit(sequence=stages("Reduce", "Coadd", partial=True))
    trial.plan(trial.claim()[0], "a", "b", "c")
    first, second, third = trial.claim(room=3)
    trial.end(first)
    trial.end(second, failure(FailureCategory.INFRASTRUCTURE))
    trial.pass_time(31)
    trial.end(third)
    assert trial.replayed() == trial.state
    assert trial.replayed() != State()
    assert Key(1, 3) in trial.state.waiting.lines["anna"].jobs or trial.state.leased == set()
