"""A journal in which everything has happened that is ever journaled."""

from contextlib import closing
from dataclasses import replace

from dpud.scheduler import events, machine
from dpud.scheduler.commands import Abandon, Cordon, Deposit, Drain, Renew, SetAllowance
from dpud.scheduler.journal import Query
from dpud.scheduler.journal_sql import SqlJournal
from dpud.scheduler.model import Allowance, FailureCategory, Party
from dpud.scheduler.snapshot_sql import shorten
from fakes_scheduler import Recorder, failure, plans, stages

RESERVE_BYTES = 4096


def record(path):
    """Write the journal."""
    with closing(SqlJournal.open_file(path, RESERVE_BYTES)) as journal:
        trial = Recorder(journal)
        _first_half(trial)
        shorten(journal._engine, journal.epoch)
        _second_half(trial)
        missing = {kind for kind in events.JOURNALED if not any(type(event) is kind for event in trial.happened)}
        assert not missing, f"the journal tells nothing of {missing}"
    path.with_suffix(".reserve").unlink()


def _first_half(trial):
    """One job fails in part, one loses a worker, one is aborted."""
    trial.do(SetAllowance(party=Party("user", "bert"), allowance=Allowance(weight=2.0, running=3), by="ruth"))
    trial.worker()
    trial.submit(commit=True)
    (plan,) = trial.claim()
    trial.plan(plan, "ccd50", "ccd51", "ccd52")
    well, badly, lost = trial.claim(room=3)
    trial.end(well)
    trial.end(badly, failure(FailureCategory.RECIPE, "only 1 bias of ccd51"))
    trial.pass_time(31)
    trial.pass_time(60)
    trial.worker()
    (again,) = trial.claim()
    assert again.task == lost.task
    trial.end(again, failure(FailureCategory.INFRASTRUCTURE, "the archive is away"))
    trial.pass_time(20)
    trial.end(*trial.claim())
    trial.submit(sequence=stages("Reduce", "Astrometry"), user="bert")
    (plan,) = trial.claim()
    trial.plan(plan, "exposure 1")
    trial.end(*trial.claim(), failure(FailureCategory.CODE, "no such name"))
    trial.deliver()


def _second_half(trial):
    """One job is in its second stage, one is cancelled, three wait; the first leaves the memory."""
    trial.retire(1)
    trial.do(Cordon(worker="w2", cordoned=True, by="ruth"))
    trial.submit(sequence=stages("ReadNoise", "Bias"), user="bert", commit=True)
    (plan,) = trial.claim()
    trial.plan(plan, "ccd50")
    trial.end(*trial.claim())
    trial.deliver()
    (plan,) = trial.claim()
    trial.plan(plan, "ccd50", "ccd51")
    trial.claim(room=1)
    cancelled = trial.submit(tasks=plans("a", "b"), priority=90)
    trial.claim(room=1)
    trial.cancel(cancelled, reason="the wrong night")
    trial.submit(tasks=plans("c", memory_mib=100_000), project="vst")
    trial.submit(user="carl")
    trial.do(Deposit(key="k", before=0, tasks=plans("d", "e")))
    trial.submit(user="carl", deposit="k", tasks=plans("f"))
    trial.do(Deposit(key="l", before=0, tasks=plans("g")))
    trial.do(Abandon("l"))
    trial.do(Drain(worker="w1", by="ruth"))
    trial.do(Renew(session="s-w1", draining=True))


def told(path):
    """Return what a journal tells, as plain values."""
    with closing(SqlJournal.open_file(path, RESERVE_BYTES)) as journal:
        state = journal.base()
        for group in journal.replay():
            for event in group:
                machine.apply(state, event)
        past = [replace(job, tasks=journal.tasks(job.id, 0, 100)) for job in journal.history(Query("kids"), 100)]
    return {
        "next_job": state.next_job,
        "grants": state.grants,
        "jobs": {str(job.id): _job(job) for job in state.jobs.values()},
        "history": {str(job.id): _job(job) for job in past},
        "waiting": sorted([user, job, task] for user, job, task in state.waiting),
        "delayed": sorted([*key, due] for key, due in state.delayed.items()),
        "leased": sorted(map(list, state.leased)),
        "usage": {user: [round(usage.slot_s, 3), usage.at] for user, usage in sorted(state.usage.items())},
        "running": dict(sorted(state.running.items())),
        "allowances": [[*party, of.weight, of.running, of.queued] for party, of in state.allowances.items()],
        "cordoned": sorted(state.cordoned),
        "requests": sorted([*asked, request.job] for asked, request in state.requests.items()),
        "outbox": [
            [entry.number, entry.errand.value, *entry.ref, entry.project, entry.commit, entry.ending, entry.lines]
            for entry in state.outbox.values()
        ],
    }


def _job(job):
    return {
        "user": job.user,
        "project": job.project,
        "sequence": job.sequence,
        "stages": [stage.recipe for stage in job.stages],
        "state": job.state.name,
        "stage": job.stage,
        "commit": job.commit,
        "priority": job.priority,
        "submitted": job.submitted,
        "ended": job.ended,
        "counts": [job.counts.normal, job.counts.error, job.counts.aborted, job.counts.submitted, job.counts.unknown],
        "cancelled_by": job.cancellation.by if job.cancellation else "",
        "tasks": [_task(task) for task in job.tasks],
    }


def _task(task):
    category = task.failure.category.name if task.failure else ""
    return [task.label, task.spec.hex(), task.state.name, task.attempt, task.token, task.worker, category]
