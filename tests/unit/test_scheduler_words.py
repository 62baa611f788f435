"""What a search finds a job by."""

from dpu.values import to_map
from dpud.scheduler.model import JobState
from dpud.scheduler.words import LONGEST, MOST_WORDS, has_words, words_in, words_of
from fakes_scheduler import Trial


def job(**options):
    trial = Trial()
    number = trial.submit(user="Anna K", options=to_map(options).SerializeToString())
    return trial.state.jobs[number]


def test_words_are_what_stands_between_spaces_whatever_their_case():
    assert words_in(" WFI\t2000-04-28\x00#842\nWFI ") == {"wfi", "2000-04-28", "#842"}
    assert words_in("") == frozenset()


def test_a_job_is_found_by_its_user_its_sequence_and_what_its_options_say():
    found = job(instrument="WFI", chips=["ccd50", "ccd51"], parallel=3, pars={"Bias": {"note": "NGC 1234"}})
    assert words_of(found) == {"anna", "k", "bias", "wfi", "ccd50", "ccd51", "ngc", "1234"}
    assert has_words(found, words_in("1234 ngc ccd50 ANNA"))
    assert not has_words(found, words_in("wfi ccd5"))
    assert not has_words(found, words_in("instrument"))


def test_how_a_job_ended_is_one_of_its_words_once_it_has():
    found = job()
    assert not has_words(found, words_in("queued"))
    found.state = JobState.FAILED
    assert has_words(found, words_in("failed"))


def test_a_job_with_very_many_and_very_long_words_is_found_by_some():
    names = [f"{number:04}" + "x" * 200 for number in range(1000)]
    found = job(objects=names)
    assert len(words_of(found)) == MOST_WORDS
    assert has_words(found, words_in(names[0]))
    assert max(map(len, words_of(found))) == LONGEST
