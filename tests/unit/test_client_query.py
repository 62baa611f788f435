"""Conditions and selections at the prompt, as the requests that they become."""

from datetime import UTC, date, datetime

import pytest

from dpu.errors import UnknownOption, UsageError
from dpu.pars import Pars
from dpu.products import to_product
from dpu.query import ATTRIBUTES, RAW_CLASSES, Query, as_json, frame_classes, main, rows
from dpu_api.v1 import archive_pb2 as pb
from dpu_api.v1.job_pb2 import Value
from dpud.archive import conditions
from fakes_client import CATALOGUE, product


class Link:
    """Answers every request with the same frames, and remembers it."""

    def __init__(self, *frames):
        self.frames = frames
        self.asked = []

    def ask(self, _pick, request):
        self.asked.append(request)
        return pb.ListFramesResponse(frames=self.frames)


@pytest.fixture
def link():
    return Link(product("ccd50"), product("ccd51"))


@pytest.fixture
def names(link):
    return frame_classes(lambda: link, CATALOGUE)


def compared(attribute, operator, **value):
    return pb.Condition(comparison=pb.Comparison(attribute=attribute, operator=operator, value=Value(**value)))


def test_the_prompt_knows_raw_classes_and_those_of_the_recipes(names):
    assert list(names) == [*RAW_CLASSES, "HotPixelMap", "BiasFrame"]
    assert list(frame_classes(lambda: None, None)) == list(RAW_CLASSES)
    assert names["BiasFrame"].__doc__ == "What Bias makes."
    assert Pars(CATALOGUE, names["BiasFrame"]).BiasFrame.process_params.SIGMA_CLIP == 3.0


def test_client_and_archive_know_the_same_attributes():
    assert tuple(conditions.ATTRIBUTES) == ATTRIBUTES


@pytest.mark.parametrize(
    ("compare", "operator"),
    [
        (lambda it: it == "x", pb.OPERATOR_EQUAL),
        (lambda it: it != "x", pb.OPERATOR_UNEQUAL),
        (lambda it: it < "x", pb.OPERATOR_LESS),
        (lambda it: it <= "x", pb.OPERATOR_AT_MOST),
        (lambda it: it > "x", pb.OPERATOR_GREATER),
        (lambda it: it >= "x", pb.OPERATOR_AT_LEAST),
        (lambda it: it.like("x"), pb.OPERATOR_LIKE),
    ],
)
def test_a_comparison_is_a_query(names, compare, operator):
    asked = compare(names["RawScienceFrame"].OBJECT).asked
    assert asked == pb.ListFramesRequest(
        frame_class="RawScienceFrame", condition=compared("object", operator, string_value="x")
    )


def test_dates_travel_as_texts(names):
    raw = names["RawBiasFrame"]
    night, time = date(2000, 4, 28), datetime(2000, 4, 28, 22, tzinfo=UTC)
    assert (night == raw.NIGHT).asked.condition.comparison.value.string_value == "2000-04-28"
    assert (raw.date_obs > time).asked.condition.comparison.value.string_value == "2000-04-28T22:00:00+00:00"


def test_conditions_combine(names):
    raw = names["RawScienceFrame"]
    first, second = raw.OBJECT == "x", raw.EXPTIME > 10
    parts = pb.Conditions(conditions=[first.asked.condition, second.asked.condition])
    assert (first & second).asked.condition == pb.Condition(all_of=parts)
    assert (first | second).asked.condition == pb.Condition(any_of=parts)
    narrowed = (first & raw.select(i="WFI")).user_only().project_only().asked
    assert narrowed == pb.ListFramesRequest(
        frame_class="RawScienceFrame",
        condition=first.asked.condition,
        selection=pb.Selection(instrument="WFI"),
        user_only=True,
        project_only=True,
    )


def test_select_takes_the_options_of_run_and_equal_attributes(names):
    raw = names["RawDomeFlatFrame"]
    asked = raw.select(instrument="WFI", d=date(2000, 4, 28), chip="ccd50", f="#842", o="D*", raw=["a"], is_valid=1)
    valid = pb.Conditions(conditions=[compared("is_valid", pb.OPERATOR_EQUAL, int_value=1)])
    assert asked.asked == pb.ListFramesRequest(
        frame_class="RawDomeFlatFrame",
        selection=pb.Selection(
            instrument="WFI", night="2000-04-28", chips=["ccd50"], filter="#842", object="D*", file_names=["a"]
        ),
        condition=pb.Condition(all_of=valid),
    )
    assert raw.select().asked == pb.ListFramesRequest(frame_class="RawDomeFlatFrame")


def test_a_query_is_a_list_that_asks_once(names, link):
    found = names["BiasFrame"].select()
    assert link.asked == []
    assert [item.chip for item in found] == ["ccd50", "ccd51"]
    assert (len(found), found[1].chip, [item.chip for item in found[:1]]) == (2, "ccd51", ["ccd50"])
    assert len(link.asked) == 1
    assert repr(found).splitlines()[-1] == "2 frames"


def test_the_greatest_and_the_least(names, link):
    found = names["BiasFrame"].select()
    assert found.max("creation_date").chip == "ccd50"
    found.min("EXPTIME")
    assert [(item.greatest_of, item.least_of) for item in link.asked] == [("creation_date", ""), ("", "exptime")]
    link.frames = ()
    with pytest.raises(UsageError, match="no BiasFrame is found, so none is first"):
        found.max("creation_date")


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda raw, _: raw.select(colour="red"), "frames have no 'colour'; they have instrument, chip"),
        (lambda raw, _: raw.select().max("createon_date"), r"did you mean 'creation_date'\?"),
        (lambda raw, _: (raw.OBJECT == "x") and (raw.OBJECT == "y"), "combine conditions by & and |"),
        (lambda raw, _: (raw.OBJECT == "x") & True, "put each comparison in brackets"),
        (lambda raw, bias: (raw.OBJECT == "x") & (bias.OBJECT == "x"), "a RawBiasFrame is never a BiasFrame"),
        (lambda raw, _: raw.select(i="WFI") & raw.select(c="1"), "give all of it to one select"),
        (lambda raw, _: raw.select(i="WFI") | (raw.CHIP == "1"), r"select afterwards, \(A | B\) & select"),
    ],
)
def test_what_means_nothing_is_refused(names, ask, told):
    with pytest.raises((UsageError, UnknownOption), match=told):
        ask(names["RawBiasFrame"], names["BiasFrame"])


def test_an_attribute_that_no_frame_has_is_none_of_the_class(names):
    with pytest.raises(AttributeError, match=r"RawBiasFrame has no 'OBJEC' \(did you mean 'object'\?\)"):
        names["RawBiasFrame"].OBJEC  # noqa: B018 (the attribute is what is asked)
    assert "OBJECT" in dir(names["RawBiasFrame"])


def test_of_many_frames_the_first_are_shown():
    many = [to_product(product("ccd50"))] * 25
    assert len(rows(many)) == 21
    assert rows(many)[-1] == "25 frames (20 are shown)"
    assert rows([]) == ["0 frames"]


def test_a_frame_as_json_is_plain():
    plain = as_json(to_product(product("ccd50")))
    assert (plain["chip"], plain["inputs"]) == ("ccd50", [])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["BiasFrame", "chip"], "must be ATTRIBUTE OPERATOR VALUE"),
        (["BiasFrame", "chp=1"], r"frames have no 'chp' \(did you mean 'chip'"),
        (["BiasFrame", "exptime>long"], "exptime is a number, and 'long' is none"),
    ],
)
def test_a_command_line_that_means_nothing_is_refused(arguments, told):
    with pytest.raises(UsageError, match=told):
        main(arguments)


def test_query_is_a_sequence_of_frames(names):
    assert isinstance(names["BiasFrame"].select(), Query)
