import pytest

from dpu.errors import BadOption, UnknownOption, UnknownSequence, UsageError
from dpu_api.v1 import catalogue_pb2, job_pb2
from dpud.scheduler import catalogue, directory, model, share
from dpud.scheduler.catalogue import Option, OptionKind, Sequence, Stage
from dpud.scheduler.model import Ref
from dpud.scheduler.reserve import Reserve
from dpud.scheduler.retries import LONGEST_PAUSE_S, pause
from dpud.scheduler.waiting import Waiting
from fakes_scheduler import BIAS


def sequence(**overrides):
    options = [
        Option(kind.name[0].lower(), kind.name.lower(), kind, 0.0, 10.0)
        if kind in {OptionKind.INTEGER, OptionKind.FLOAT}
        else Option(kind.name[0].lower(), kind.name.lower(), kind)
        for kind in OptionKind
    ]
    pars = Option("p", "pars", OptionKind.PARAMETERS)
    values = {"name": "Bias", "stages": BIAS.stages, "options": (*options, pars)}
    return Sequence(**{**values, "parameters": frozenset({"BiasFrame.process_params.SIGMA_CLIP"}), **overrides})


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"text": "WFI", "integer": 6, "float": 2, "flag": 1, "date": "2000-04-28", "list": ["a"], "parameters": {}},
        {"flag": True, "date": "", "list": "one", "float": 0.5, "text": None},
        {"pars": {"BiasFrame.process_params.SIGMA_CLIP": 5.0}},
    ],
)
def test_options_that_fit_are_taken(given):
    catalogue.check_options(sequence(), given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"text": 7}, "text=7: must be a text"),
        ({"integer": 6.5}, "integer=6.5: must be a whole number"),
        ({"integer": True}, "integer=True: must be a whole number"),
        ({"integer": 11}, "integer=11: must be from 0 to 10"),
        ({"float": float("nan")}, "float=nan: must be a number"),
        ({"flag": 2}, "flag=2: must be 0 or 1"),
        ({"date": "2000-02-30"}, "date='2000-02-30': must be a date 'CCYY-MM-DD'"),
        ({"list": [1]}, r"list=\[1\]: must be a text or a list of texts"),
        ({"parameters": "x"}, "parameters='x': must be a dictionary"),
    ],
)
def test_a_value_that_an_option_cannot_have_is_named(given, message):
    with pytest.raises(BadOption, match=message):
        catalogue.check_options(sequence(), given)


def test_an_unknown_option_is_named_with_the_nearest():
    with pytest.raises(UnknownOption, match="Bias has no option 'instrumint'; did you mean 'instrument'?"):
        catalogue.check_options(BIAS, {"instrumint": "WFI"})
    with pytest.raises(UnknownOption, match=r"no option 'zzz' \(it has: instrument, overscan\)"):
        catalogue.check_options(BIAS, {"zzz": 1})
    with pytest.raises(UnknownOption, match=r"'BiasFrame.process_params.SIGMACLIP'; did you mean 'BiasFrame"):
        catalogue.check_options(sequence(), {"pars": {"BiasFrame.process_params.SIGMACLIP": 1}})


def test_one_of_several_options_must_be_given():
    narrow = sequence(one_of=("date", "list"))
    catalogue.check_options(narrow, {"list": ["a"]})
    with pytest.raises(BadOption, match="needs at least one of: date, list"):
        catalogue.check_options(narrow, {"date": "", "list": []})


@pytest.mark.parametrize(
    ("overrides", "kind"),
    [
        ({"name": ""}, UnknownSequence),
        ({"name": "x" * 201}, UnknownSequence),
        ({"stages": ()}, UsageError),
        ({"stages": (Stage(""),)}, UsageError),
        ({"stages": (Stage("Bias", seconds=float("inf")),)}, UsageError),
        ({"stages": (Stage("Bias", memory_mib=-1),)}, UsageError),
    ],
)
def test_a_sequence_that_cannot_be_run_is_refused(overrides, kind):
    with pytest.raises(kind):
        catalogue.check_sequence(sequence(**overrides))


@pytest.mark.parametrize(("tasks", "slots", "seconds"), [(0, 4, 0), (1, 0, 10), (8, 4, 20), (9, 4, 30)])
def test_an_estimate_counts_rounds_of_tasks(tasks, slots, seconds):
    assert catalogue.estimate(10.0, tasks, slots) == seconds


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (model.JobState, job_pb2.JobState),
        (model.TaskState, job_pb2.TaskState),
        (model.FailureCategory, job_pb2.FailureCategory),
        (OptionKind, catalogue_pb2.OptionKind),
    ],
)
def test_states_have_the_numbers_of_the_contract(ours, theirs):
    prefix = theirs.DESCRIPTOR.values[0].name.removesuffix("UNSPECIFIED")
    named = {value.name.removeprefix(prefix): value.number for value in theirs.DESCRIPTOR.values if value.number}
    assert {member.name: member.value for member in ours} == named


def test_usage_halves_in_a_day_and_never_goes_below_nothing():
    usage = share.Usage().charged(100.0, 1_000.0)
    assert usage.decayed(1_000.0 + share.HALF_LIFE_S) == pytest.approx(50.0)
    assert usage.charged(-500.0, 2_000.0).slot_s == 0.0


def test_slots_held_now_count_before_their_tasks_end():
    assert share.standing(share.Usage(), 2, 0.0) > share.standing(share.Usage(100.0, 0.0), 0, 0.0)


def test_one_lease_in_five_goes_by_age_and_rotates_over_users():
    assert [grants for grants in range(12) if share.goes_by_age(grants)] == [4, 9]
    assert share.rotated(["a", "b"], 4) == ["a", "b"]
    assert share.rotated(["a", "b"], 9) == ["b", "a"]
    assert share.rotated([], 9) == []


def test_pauses_grow_to_a_longest_and_differ():
    assert pause(Ref(1, 0, 9), 30) <= 1.5 * LONGEST_PAUSE_S
    assert pause(Ref(1, 0, 1), 0) != pause(Ref(1, 1, 1), 0)


def test_the_waiting_are_offered_by_priority_then_age():
    waiting = Waiting()
    waiting.add("anna", 0, 1, (0,), plan=False)
    waiting.add("anna", 5, 2, (0,), plan=False)
    waiting.add("anna", 0, 3, (0,), plan=True)
    waiting.add("anna", 0, 1, (1,), plan=False)
    assert list(waiting) == [("anna", 3, 0), ("anna", 2, 0), ("anna", 1, 0), ("anna", 1, 1)]
    assert [job for job, _ in waiting.lines["anna"].by_age()] == [1]
    for job, task, priority, plan in [(3, 0, 0, True), (2, 0, 5, False), (1, 0, 0, False), (1, 1, 0, False)]:
        waiting.remove("anna", priority, job, task, plan=plan)
    assert waiting == Waiting()


def test_a_page_token_stands_for_its_own_listing_only():
    token = directory.page_token(17, "jobs kids")
    assert directory.position_of(token, "jobs kids") == 17
    assert directory.position_of("", "jobs kids") == 0
    for made_up in (token[:-1], token + "A", "MTc", "é", "!"):
        with pytest.raises(UsageError, match="begin without one"):
            directory.position_of(made_up, "jobs kids")
    with pytest.raises(UsageError):
        directory.position_of(token, "jobs atlas")


def test_a_reserve_is_there_or_not_and_never_in_part(tmp_path):
    reserve = Reserve(tmp_path / "room", 4096)
    assert not reserve.give_up()
    assert reserve.take()
    assert reserve.take()
    assert (tmp_path / "room").stat().st_size == 4096
    assert reserve.give_up()
    assert list(tmp_path.iterdir()) == []
    assert not Reserve(tmp_path / "room", 2**62).take()
    assert list(tmp_path.iterdir()) == []
