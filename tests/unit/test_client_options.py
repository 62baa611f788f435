"""Options of `run`: names, kinds, bounds, what is required."""

import re
from datetime import UTC, date, datetime

import pytest

from dpu.errors import BadOption, UnknownOption, UsageError
from dpu.options import DpuOptions, check, default_of, find_sequence, names_of
from fakes_client import CATALOGUE

BIAS = find_sequence(CATALOGUE, "Bias")
SIGMA = "BiasFrame.process_params.SIGMA_CLIP"
ITERATIONS = "BiasFrame.process_params.ITERATIONS"
GIVEN = {"i": "WFI", "d": "2000-04-28"}


def test_short_and_long_names_mean_the_same():
    assert check(BIAS, {"i": "WFI", "d": "2000-04-28", "C": 1}) == check(
        BIAS, {"instrument": "WFI", "date": "2000-04-28", "commit": True}
    )


def test_only_what_is_given_is_passed_on():
    given = {**GIVEN, "c": "", "oc": None, "send_code": False, "dpu_time": 5}
    assert check(BIAS, given) == {"instrument": "WFI", "date": "2000-04-28"}


@pytest.mark.parametrize(
    ("name", "value", "long", "converted"),
    [
        ("d", date(2000, 4, 28), "date", "2000-04-28"),
        ("oc", 10, "overscan", 10),
        ("gra", 12, "grid_ra", 12.0),
        ("C", True, "commit", 1),
        ("C", 0, "commit", 0),
        ("raw", "WFI.1.fits", "raw_filenames", ["WFI.1.fits"]),
        ("raw", ("a", "b"), "raw_filenames", ["a", "b"]),
        ("p", {SIGMA: 5}, "pars", {SIGMA: 5.0}),
        ("p", {}, "pars", {}),
    ],
)
def test_a_value_is_converted_to_its_kind(name, value, long, converted):
    result = check(BIAS, {"i": "WFI", "d": "2000-04-28"} | {name: value})[long]
    assert (result, type(result)) == (converted, type(converted))


BAD = [
    ("d", "2000-02-30", "d='2000-02-30': must be a date 'CCYY-MM-DD', the night that begins that evening"),
    ("d", "20000428", "d='20000428': must be a date 'CCYY-MM-DD', the night that begins that evening"),
    ("d", 20000428, "d=20000428: must be a date 'CCYY-MM-DD', the night that begins that evening"),
    ("date", "2000-W17-5", "date='2000-W17-5': must be a date 'CCYY-MM-DD', the night that begins that evening"),
    ("oc", 11, "oc=11: must be between 0 and 10"),
    ("oc", 6.0, "oc=6.0: must be a whole number"),
    ("oc", "6", "oc='6': must be a whole number"),
    ("gra", float("nan"), "gra=nan: must be a finite number"),
    ("gra", "12:00", "gra='12:00': must be a number"),
    ("C", 2, "C=2: must be 0 or 1"),
    ("C", "yes", "C='yes': must be 0 or 1"),
    ("c", 50, "c=50: must be a text"),
    ("raw", [1], "raw=[1]: must be a list of texts"),
    ("raw", [], "raw=[]: must be a list of texts"),
    ("p", "x", "p='x': must be a dictionary of process parameters by name, as Pars.get() gives"),
    ("p", {SIGMA: "5"}, f"{SIGMA}='5': must be a number"),
    ("p", {SIGMA: float("inf")}, f"{SIGMA}=inf: must be a finite number"),
    ("p", {SIGMA: float("nan")}, f"{SIGMA}=nan: must be a finite number"),
    ("p", {SIGMA: -5}, f"{SIGMA}=-5.0: must be at least 1"),
    ("p", {ITERATIONS: 0}, f"{ITERATIONS}=0: must be between 1 and 100"),
    ("p", {ITERATIONS: 101}, f"{ITERATIONS}=101: must be between 1 and 100"),
    (
        "p",
        {ITERATIONS: 2.5},
        f"{ITERATIONS}=2.5: must be a whole number",
    ),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD, ids=[f"{bad[0]}={bad[1]}" for bad in BAD])
def test_a_value_of_another_kind_is_refused_by_name_and_value(name, value, message):
    given = {key: item for key, item in GIVEN.items() if not (key == "d" and name == "date")}
    with pytest.raises(BadOption) as caught:
        check(BIAS, given | {name: value})
    assert caught.value.message == message


def test_a_moment_is_no_night():
    with pytest.raises(BadOption, match="must be a date"):
        check(BIAS, {"i": "WFI", "d": datetime(2000, 4, 28, tzinfo=UTC)})


def test_both_names_of_one_option_are_refused():
    with pytest.raises(BadOption, match="^'d' and 'date' are one option of Bias: give it only once$"):
        check(BIAS, {"i": "WFI", "d": "2000-04-28", "date": "2000-04-28"})


@pytest.mark.parametrize(("name", "nearest"), [("instrment", "instrument"), ("DATE", "date"), ("dpu_tme", "dpu_time")])
def test_an_unknown_option_gets_the_nearest_name(name, nearest):
    with pytest.raises(
        UnknownOption, match=rf"^Bias has no option '{name}' \(did you mean '{nearest}'\?\); it knows i"
    ):
        check(BIAS, GIVEN | {name: "x"})


def test_an_unknown_option_that_is_near_to_none_gets_all():
    with pytest.raises(UnknownOption, match="^Bias has no option 'zzz'; it knows i, d, c, oc, p, C, raw, gra, i"):
        check(BIAS, GIVEN | {"zzz": 1})


@pytest.mark.parametrize(
    "name", ["BiasFrame.SIGMA_CLIP", "SIGMA_CLIP", "sigma_clip", "Bias.process_params.SIGMA_CLIPP"]
)
def test_an_unknown_process_parameter_gets_the_nearest_name(name):
    with pytest.raises(UnknownOption, match=rf"process parameter '{name}' \(did you mean '{SIGMA}'\?\)"):
        check(BIAS, GIVEN | {"p": {name: 5.0}})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Bias needs an instrument: give i=, as in i='WFI'"),
        ({"i": "", "d": "2000-04-28"}, "Bias needs an instrument: give i=, as in i='WFI'"),
        ({"i": "WFI", "c": "ccd50"}, "Bias needs to know what to select: give d= (date) or raw= (raw_filenames)"),
    ],
)
def test_what_is_required_is_asked_for(given, message):
    with pytest.raises(UsageError) as caught:
        check(BIAS, given)
    assert caught.value.message == message


def test_names_are_all_short_ones_then_all_long_ones():
    assert names_of(find_sequence(CATALOGUE, "HotPixels")) == [
        *("i", "d", "c", "p", "C"),
        *("instrument", "date", "chip", "pars", "commit"),
    ]


def test_defaults_are_shown_as_ever():
    assert [default_of(option) for option in BIAS.options if not option.unlisted] == ["", "", "", 6, {}, 0, [], ""]


def test_the_dpus_own_options_have_defaults():
    assert DpuOptions.of({"i": "WFI"}) == DpuOptions(
        send_code=True, dpu_time=0.0, dpu_mem=0, dpu_priority=0, dpu_dryrun=False, dpu_aweversion="current"
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("dpu_time", -1, "dpu_time=-1.0: must be between 0 and 31622400"),
        ("dpu_mem", 1.5, "dpu_mem=1.5: must be a whole number"),
        ("dpu_priority", 101, "dpu_priority=101: must be between -100 and 100"),
        ("send_code", "no", "send_code='no': must be 0 or 1"),
        ("dpu_aweversion", 2.4, "dpu_aweversion=2.4: must be the name of a version (`awe version list`)"),
    ],
)
def test_the_dpus_own_options_are_checked(name, value, message):
    with pytest.raises(BadOption) as caught:
        DpuOptions.of({name: value})
    assert caught.value.message == message


def test_where_a_version_is_named_no_code_is_sent():
    assert not DpuOptions.of({"dpu_aweversion": "2.4"}).send_code
    assert DpuOptions.of({"dpu_aweversion": "current"}).send_code
    with pytest.raises(BadOption, match=r"^send_code=1 and dpu_aweversion='2.4': one or the other$"):
        DpuOptions.of({"dpu_aweversion": "2.4", "send_code": 1})


@pytest.mark.parametrize("name", [3, None, int])
def test_what_is_no_name_is_no_sequence(name):
    with pytest.raises(BadOption, match=f"^{re.escape(repr(name))}: must be the name of a sequence, as 'Bias'; known"):
        find_sequence(CATALOGUE, name)
