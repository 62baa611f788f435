import pytest

from dpud.scheduler.answers import Answer, answer
from dpud.scheduler.model import FailureCategory, Ref
from fakes_scheduler import Trial, failure, plans, ref_of, renewal, report


@pytest.fixture
def trial():
    trial = Trial()
    trial.worker()
    return trial


def asked(trial, reports=(), held=(), happened=()):
    return answer(trial.state, reports, renewal("s-w1", *held).held, happened)


def test_a_worker_is_told_its_leases_and_which_reports_were_taken(trial):
    trial.submit(tasks=plans("a", "b"))
    [first] = trial.claim()
    trial.end(first)
    [second] = leases = trial.claim()
    assert asked(trial, [report(first)], [second], leases) == Answer(leases=(second,), acknowledged=(ref_of(first),))


def test_the_report_of_a_lapsed_lease_is_stale_before_and_after_its_next_lease(trial):
    trial.submit(tasks=plans("a"))
    [lease] = trial.claim()
    trial.pass_time(30)
    assert asked(trial, [report(lease)], [lease]) == Answer(stale=(ref_of(lease),))
    trial.claim()
    assert asked(trial, [report(lease)], [lease]) == Answer(stale=(ref_of(lease),))


def test_the_repeated_report_of_an_attempt_that_goes_on_waiting_is_acknowledged(trial):
    trial.submit(tasks=plans("a"))
    [lease] = trial.claim()
    trial.end(lease, failure(FailureCategory.INFRASTRUCTURE))
    assert asked(trial, [report(lease)]) == Answer(acknowledged=(ref_of(lease),))


def test_what_never_was_is_stale(trial):
    trial.submit(tasks=plans("a"))
    [lease] = trial.claim()
    for ref in (Ref(9, 0, 1), Ref(1, 9, 1), Ref(1, -1, 1), Ref(1, 0, 2)):
        assert answer(trial.state, (), {ref: lease.token}, ()) == Answer(stale=(ref,))


def test_a_cancel_is_news_until_it_was_told(trial):
    job = trial.submit(tasks=plans("a"))
    [lease] = trial.claim()
    trial.cancel(job)
    said = asked(trial, held=[lease])
    assert said == Answer(cancel=(ref_of(lease),))
    assert said.has_news(frozenset())
    assert not said.has_news(frozenset(said.cancel))


def test_who_claims_hears_of_its_reports_with_the_next_news(trial):
    trial.submit(tasks=plans("a"))
    [lease] = trial.claim()
    trial.end(lease)
    said = asked(trial, [report(lease)])
    assert said.has_news(frozenset())
    assert not said.has_news(frozenset(), claimed=True)
