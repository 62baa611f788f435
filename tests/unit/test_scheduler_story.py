"""Any sequence of commands, time steps, lapses, restarts and stale reports keeps every invariant."""

from collections import defaultdict
from copy import copy
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from dpu.errors import Conflict, DpuError, Exhausted, NotFound, StaleLease, Unreachable, UsageError
from dpud.scheduler import allowances, invariants, machine
from dpud.scheduler.commands import (
    Abandon,
    Acknowledge,
    Cordon,
    Deposit,
    Drain,
    Plan,
    Register,
    Renew,
    Repeat,
    Resume,
    SetAllowance,
)
from dpud.scheduler.directory import Directory
from dpud.scheduler.journal import MemoryJournal, Shelf, Superseded
from dpud.scheduler.model import REQUEST_TERM_S, Allowance, Errand, FailureCategory, Limits, Party, TaskState
from dpud.scheduler.repeats import first_failed
from dpud.scheduler.snapshot import dump_state, load_state
from fakes_scheduler import Recorder, again, failure, plans, ref_of, renewal, report, stages, submit

USERS = st.sampled_from(["anna", "bert", "cleo"])
WORKERS = st.sampled_from(["w1", "w2"])


class Story(RuleBasedStateMachine):
    jobs = Bundle("jobs")
    leases = Bundle("leases")

    def __init__(self):
        super().__init__()
        self.shelf = Shelf()
        self.trial = Recorder(MemoryJournal(self.shelf))
        self.leased = []
        self.asked = {}
        self.tokens = set()
        #: By task: the attempts whose products the archive is to publish, and the one whose end was taken.
        self.published = defaultdict(set)
        self.taken = {}
        self.ends = {}

    @rule(
        target=jobs,
        user=USERS,
        tasks=st.integers(0, 3),
        names=st.sampled_from(["A", "AB", "ABC"]),
        partial=st.booleans(),
        priority=st.integers(-1, 1),
        memory=st.sampled_from([0, 0, 60]),
    )
    def submit(self, user, tasks, names, partial, priority, memory):
        asked = {
            "request_id": f"r{self.trial.state.next_job}",
            "user": user,
            "tasks": plans(*"abc"[:tasks]),
            "sequence": stages(*names, partial=partial),
            "priority": priority,
            "limits": Limits(memory_mib=memory),
        }
        try:
            job = self.trial.submit(**asked)
        except Exhausted:
            assert any(each.queued or each.queued_bytes for each in self.trial.state.allowances.values())
            return multiple()
        self.asked[job] = asked, self.trial.now
        return job

    @rule(job=jobs, digest=st.sampled_from(["d1", "other"]))
    def submit_the_same_again(self, job, digest):
        asked, at = self.asked.get(job, ({}, -REQUEST_TERM_S))
        if self.trial.now - at >= REQUEST_TERM_S:
            return
        try:
            assert self.trial.do(submit(**asked, digest=digest)) == []
        except Conflict:
            assert digest == "other"
        else:
            assert digest == "d1"

    @rule(key=st.sampled_from("kl"), before=st.integers(0, 4), number=st.integers(1, 3))
    def lay_down_tasks(self, key, before, number):
        here = self.trial.state.deposits.get(key)
        came = len(here.tasks) if here else 0
        try:
            self.trial.do(Deposit(key=key, before=before, tasks=plans(*"abc"[:number], memory_mib=7)))
        except Unreachable:
            assert before != came
        else:
            assert before == came
            assert len(self.trial.state.deposits[key].tasks) == came + number

    @rule(key=st.sampled_from("kl"))
    def abandon_tasks(self, key):
        was_there = key in self.trial.state.deposits
        assert bool(self.trial.do(Abandon(key))) == was_there
        assert key not in self.trial.state.deposits

    @rule(target=jobs, user=USERS, key=st.sampled_from("kl"), tasks=st.integers(0, 2))
    def submit_what_was_laid_down(self, user, key, tasks):
        here = self.trial.state.deposits.get(key)
        laid_down = len(here.tasks) if here else 0
        asked = {
            "request_id": f"r{self.trial.state.next_job}",
            "user": user,
            "tasks": plans(*"yz"[:tasks]),
            "deposit": key,
        }
        try:
            job = self.trial.submit(**asked)
        except Unreachable:
            assert here is None
            return multiple()
        except Exhausted:
            assert any(each.queued or each.queued_bytes for each in self.trial.state.allowances.values())
            return multiple()
        assert key not in self.trial.state.deposits
        labels = "".join(task.label for task in self.trial.state.jobs[job].tasks)
        assert labels.endswith("yz"[:tasks])
        assert len(labels) == laid_down + tasks
        self.asked[job] = asked, self.trial.now
        return job

    @rule(worker=WORKERS)
    def register(self, worker):
        self.trial.worker(worker)

    @rule(worker=WORKERS, held=st.lists(leases, max_size=3))
    def come_back(self, worker, held):
        """Register anew, and go on with some of what was leased: to others too, or long ago."""
        session = f"s-{worker}"
        stood = [lease for lease in held if self.trial.state.holds(ref_of(lease), lease.token)]
        self.trial.do(Register(session=session, worker=worker, slots=4, memory_mib=10_000))
        self.trial.do(renewal(session, *held))
        assert all(self.trial.state.holds(ref_of(lease), lease.token) for lease in stood)
        named = {ref_of(lease).key for lease in stood}
        for key in self.trial.state.leased:
            assert key in named or self.trial.state.find(key).worker != worker

    @rule(worker=WORKERS, held=st.lists(leases, max_size=3))
    def renew(self, worker, held):
        if f"s-{worker}" in self.trial.state.presence.sessions:
            before = dict(self.trial.state.presence.deadlines)
            self.trial.do(renewal(f"s-{worker}", *held))
            named = {ref_of(lease).key for lease in held}
            after = self.trial.state.presence.deadlines
            assert {key for key in after if after[key] != before[key]} <= named

    @rule(target=leases, worker=WORKERS, room=st.integers(1, 3), memory=st.sampled_from([50, 150, 500, 100_000]))
    def claim(self, worker, room, memory):
        state = self.trial.state
        if f"s-{worker}" not in state.presence.sessions:
            self.trial.worker(worker)
        leased = self.leased = self.trial.claim(f"s-{worker}", room, memory)
        tasks = [state.jobs[lease.job].tasks[lease.task] for lease in leased]
        assert [task.attempt for task in tasks] == [lease.attempt for lease in leased]
        assert sum(task.memory_mib for task in tasks) <= memory
        assert len(leased) <= (0 if worker in state.cordoned else room)
        assert self.tokens.isdisjoint(lease.token for lease in leased)
        self.tokens |= {lease.token for lease in leased}
        return multiple(*leased)

    @rule(
        lease=leases,
        category=st.sampled_from([None, *FailureCategory]),
        products=st.integers(0, 1),
        alone=st.booleans(),
    )
    def end(self, lease, category, products, alone):
        stood = self.trial.state.holds(report(lease).ref, lease.token)
        happened = self.trial.end(lease, failure(category) if category else None, products=products, alone=alone)
        assert bool(happened) == stood
        if stood and products and self.trial.state.find(ref_of(lease).key).state is TaskState.SUCCEEDED:
            assert self.taken.setdefault(ref_of(lease).key, lease.attempt) == lease.attempt

    @rule(lease=leases, number=st.integers(0, 3))
    def plan(self, lease, number):
        stood = self.trial.state.holds(report(lease).ref, lease.token)
        try:
            happened = self.trial.do(Plan(report=report(lease), tasks=plans(*"abc"[:number])))
        except StaleLease:
            assert not stood or not self.trial.state.find(report(lease).ref.key).plan
        else:
            assert stood or happened == []

    @rule(lease=consumes(leases))
    def report_with_a_made_up_token(self, lease):
        assert self.trial.end(replace(lease, token="made up")) == []  # noqa: S106 (a fencing token)

    @rule(job=jobs, by=USERS)
    def cancel(self, job, by):
        try:
            self.trial.cancel(job, by=by)
        except DpuError:
            assert job not in self.trial.state.jobs or self.trial.state.jobs[job].user != by

    @rule(target=jobs, job=jobs, by=USERS, only_failed=st.booleans(), piece=st.integers(1, 3))
    def repeat(self, job, by, only_failed, piece):
        """Do a job again, from the memory or the history, with its tasks in pieces."""
        known, tasks = self.found(job)
        request = f"again {self.trial.state.next_job}"
        wish = Repeat(request_id=request, digest="d", user=by, project="kids", job=known)
        if not known.state.ended:
            with pytest.raises(UsageError):
                self.trial.do(wish)
            return multiple()
        if only_failed and first_failed(tasks) is None:
            assert not known.counts.error
            assert not known.counts.aborted
            return multiple()
        chosen = again(tasks, only_failed=only_failed)
        wanted = chosen["tasks"]
        key, rest = self.laid_down(request, wanted, piece)
        try:
            self.trial.do(replace(wish, stage=chosen["stage"], tasks=rest, deposit=key))
        except Exhausted:
            assert any(each.queued or each.queued_bytes for each in self.trial.state.allowances.values())
            return multiple()
        taken = self.trial.state.next_job - 1
        labels = [task.label for task in wanted] or ["plan"]
        assert [task.label for task in self.trial.state.jobs[taken].tasks] == labels
        assert not only_failed or len(labels) <= known.counts.error + known.counts.aborted
        return taken

    def found(self, job):
        """Return a job, wherever it is, and its tasks."""
        directory = Directory(self.trial.state, self.trial.journal)
        return directory.job(job, "kids"), directory.tasks(job, 0, 1_000)

    def laid_down(self, key, tasks, piece):
        """Lay all tasks down but the last few; return the key, if it was needed, and these."""
        ends = range(piece, len(tasks), piece)
        for end in ends:
            self.trial.do(Deposit(key=key, before=end - piece, tasks=tasks[end - piece : end]))
        return (key if ends else ""), tasks[ends[-1] if ends else 0 :]

    @rule(worker=WORKERS, cordoned=st.booleans())
    def cordon(self, worker, cordoned):
        self.trial.do(Cordon(worker=worker, cordoned=cordoned, by="ruth"))

    @rule(worker=WORKERS)
    def drain(self, worker):
        try:
            self.trial.do(Drain(worker=worker, by="ruth"))
        except NotFound:
            assert f"s-{worker}" not in self.trial.state.presence.sessions
        else:
            assert worker in self.trial.state.cordoned

    @rule(worker=WORKERS, draining=st.booleans())
    def hand_back(self, worker, draining):
        state = self.trial.state
        if (session := state.presence.sessions.get(f"s-{worker}")) is not None:
            assert worker not in state.draining or session.draining
            self.trial.do(Renew(session=f"s-{worker}", draining=draining))
            assert not (draining and worker in state.draining)

    @rule(
        party=st.sampled_from([Party("user", "anna"), Party("project", "kids")]),
        weight=st.sampled_from([0.5, 1.0, 2.0]),
        running=st.integers(0, 2),
        queued=st.sampled_from([0, 0, 9]),
        queued_bytes=st.sampled_from([0, 0, 60]),
    )
    def allow(self, party, weight, running, queued, queued_bytes):
        allowance = Allowance(weight, running, queued, queued_bytes)
        self.trial.do(SetAllowance(party=party, allowance=allowance, by="ruth"))

    @invariant()
    def nobody_was_just_given_more_than_allowed(self):
        state = self.trial.state
        for lease in self.leased:
            for party in allowances.parties(state.jobs[lease.job]) if lease.job in state.jobs else ():
                limit = allowances.of(state, party).running
                counts = state.running if party.kind == "user" else state.running_in
                assert not limit or counts.get(party.name, 0) <= limit
        self.leased = []

    @rule(seconds=st.sampled_from([0.5, 5.0, 29.0, 31.0, 100.0, 90_000.0]))
    def time_passes(self, seconds):
        self.trial.pass_time(seconds)

    @rule(data=st.data())
    def some_are_told(self, data):
        numbers = list(self.trial.state.outbox)
        told = data.draw(st.lists(st.sampled_from(numbers), unique=True)) if numbers else []
        self.trial.do(Acknowledge((*told, 10**9)))

    @rule(here=st.booleans())
    def the_logs_are_here(self, here):
        self.trial.state.presence.logs_here = here

    @rule(limit=st.integers(0, 3))
    def retire(self, limit):
        self.trial.retire(limit)

    @rule()
    def the_scheduler_starts_again(self):
        self.trial.state = self.replay()
        self.trial.do(Resume())

    @rule()
    def another_scheduler_leads_and_the_old_one_wakes(self):
        old = copy(self.trial)
        self.trial.journal = MemoryJournal(self.shelf)
        self.the_scheduler_starts_again()
        with pytest.raises(Superseded):
            old.do(Cordon(worker="w9", cordoned=True, by="ruth"))

    @rule()
    def a_snapshot_is_made(self):
        self.trial.journal.shorten()

    def replay(self):
        state = self.trial.journal.base()
        for group in self.trial.journal.replay():
            for event in group:
                machine.apply(state, event)
        return state

    @invariant()
    def replaying_gives_the_state(self):
        state = self.replay()
        assert state == self.trial.state
        assert load_state(dump_state(state)) == state
        assert invariants.violations(state) == []

    @invariant()
    def of_a_task_one_attempt_takes_effect(self):
        for entry in self.trial.state.outbox.values():
            if entry.errand is Errand.PUBLISH:
                self.published[entry.ref.key].add(entry.ref.attempt)
        assert self.published == {key: {attempt} for key, attempt in self.taken.items()}

    @invariant()
    def an_end_stays(self):
        for number, job in self.trial.state.jobs.items():
            if job.state.ended:
                ending = (job.state, replace(job.counts), job.ended)
                assert self.ends.setdefault(number, ending) == ending

    def teardown(self):
        """Let everything run to its end: nothing is stuck."""
        trial = self.trial
        trial.worker("last", slots=100)
        for _ in range(300):
            if not trial.state.open_jobs:
                break
            for lease in trial.claim("s-last", 100):
                if trial.state.jobs[lease.job].tasks[lease.task].plan:
                    trial.plan(lease, "z")
                else:
                    self.end(lease, None, 1, alone=False)
            self.of_a_task_one_attempt_takes_effect()
            trial.deliver()
            trial.worker("last", slots=100)
            trial.pass_time(35)
        assert trial.state.open_jobs == 0
        for number, ending in self.ends.items():
            known, tasks = self.found(number)
            assert (known.state, known.counts, known.ended) == ending
            assert len(tasks) >= known.counts.total


TestStory = Story.TestCase
TestStory.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
