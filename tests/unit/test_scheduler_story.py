"""Any sequence of commands, time steps, lapses, restarts and stale reports keeps every invariant."""

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from dpu.errors import DpuError, StaleLease, UsageError
from dpud.scheduler import allowances, codec, invariants, machine
from dpud.scheduler.commands import Acknowledge, Cordon, Plan, Repeat, Resume, Retire, SetAllowance
from dpud.scheduler.model import Allowance, FailureCategory, Party
from dpud.scheduler.snapshot import dump_state, load_state
from fakes_scheduler import Trial, failure, plans, report, stages

USERS = st.sampled_from(["anna", "bert", "cleo"])
WORKERS = st.sampled_from(["w1", "w2"])


class Story(RuleBasedStateMachine):
    jobs = Bundle("jobs")
    leases = Bundle("leases")

    def __init__(self):
        super().__init__()
        self.trial = Trial()
        self.snapshot = []
        self.leased = []
        self.groups = []
        self.told = 0
        self.ends = {}

    @rule(target=jobs, user=USERS, tasks=st.integers(0, 3), names=st.sampled_from(["A", "AB", "ABC"]), data=st.data())
    def submit(self, user, tasks, names, data):
        return self.trial.submit(
            user=user,
            tasks=plans(*"abc"[:tasks]),
            sequence=stages(*names, partial=data.draw(st.booleans())),
            priority=data.draw(st.integers(-1, 1)),
        )

    @rule(worker=WORKERS)
    def register(self, worker):
        self.trial.worker(worker)

    @rule(target=leases, worker=WORKERS, room=st.integers(1, 3), memory=st.sampled_from([50, 500, 100_000]))
    def claim(self, worker, room, memory):
        if f"s-{worker}" not in self.trial.state.presence.sessions:
            self.trial.worker(worker)
        leased = self.leased = self.trial.claim(f"s-{worker}", room, memory)
        for lease in leased:
            task = self.trial.state.jobs[lease.job].tasks[lease.task]
            assert task.attempt == lease.attempt
        return leased[0] if leased else None

    @rule(lease=leases, category=st.sampled_from([None, *FailureCategory]), products=st.integers(0, 1))
    def end(self, lease, category, products):
        if lease is None:
            return
        stood = self.trial.state.holds(report(lease).ref, lease.token)
        happened = self.trial.end(lease, failure(category) if category else None, products=products)
        assert bool(happened) == stood

    @rule(lease=leases, number=st.integers(0, 3))
    def plan(self, lease, number):
        if lease is None:
            return
        stood = self.trial.state.holds(report(lease).ref, lease.token)
        try:
            happened = self.trial.do(Plan(report=report(lease), tasks=plans(*"abc"[:number])))
        except StaleLease:
            assert not stood or not self.trial.state.find(report(lease).ref.key).plan
        else:
            assert stood or happened == []

    @rule(lease=consumes(leases))
    def report_with_a_made_up_token(self, lease):
        if lease is not None:
            assert self.trial.end(replace(lease, token="made up")) == []  # noqa: S106 (a fencing token)

    @rule(job=jobs, by=USERS)
    def cancel(self, job, by):
        try:
            self.trial.cancel(job, by=by)
        except DpuError:
            assert job not in self.trial.state.jobs or self.trial.state.jobs[job].user != by

    @rule(job=jobs, by=USERS, only_failed=st.booleans())
    def repeat(self, job, by, only_failed):
        known = self.trial.state.jobs.get(job)
        if known is None:
            return
        request = f"again {self.trial.state.next_job}"
        again = Repeat(request_id=request, digest="d", user=by, project="kids", job=known, only_failed=only_failed)
        try:
            [taken] = self.trial.do(again)
        except UsageError:
            assert not known.state.ended or (only_failed and not known.counts.error and not known.counts.aborted)
        else:
            assert known.state.ended
            assert not only_failed or len(taken.tasks) <= known.counts.error + known.counts.aborted

    @rule(worker=WORKERS, cordoned=st.booleans())
    def cordon(self, worker, cordoned):
        self.trial.do(Cordon(worker=worker, cordoned=cordoned, by="ruth"))

    @rule(party=st.sampled_from([Party("user", "anna"), Party("project", "kids")]), running=st.integers(0, 2))
    def allow(self, party, running):
        self.trial.do(SetAllowance(party=party, allowance=Allowance(2.0, running), by="ruth"))

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

    @rule(limit=st.integers(0, 3))
    def retire(self, limit):
        self.trial.do(Retire(limit))

    @rule()
    def the_scheduler_starts_again(self):
        self.trial.state = self.replay()
        self.trial.do(Resume())

    @rule()
    def a_snapshot_is_made(self):
        self.snapshot = list(dump_state(self.trial.state))
        self.trial.happened.clear()

    def replay(self):
        state = load_state(self.snapshot)
        for event in codec.load_events(codec.dump_events(self.trial.happened) or b"[]"):
            machine.apply(state, event)
        return state

    @invariant()
    def replaying_gives_the_state(self):
        state = self.replay()
        assert state == self.trial.state
        assert load_state(dump_state(state)) == state
        assert invariants.violations(state) == []

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
                    trial.end(lease)
            trial.deliver()
            trial.worker("last", slots=100)
            trial.pass_time(35)
        assert trial.state.open_jobs == 0


TestStory = Story.TestCase
TestStory.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
