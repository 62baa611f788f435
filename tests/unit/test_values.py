import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpu.errors import BadOption
from dpu.values import DEEPEST, from_map, from_value, to_map, to_value
from dpu_api.v1.job_pb2 import Value

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_a_value_comes_back_as_it_was_and_of_its_type(plain):
    back = from_value(Value.FromString(to_value(plain).SerializeToString()))
    assert back == plain
    assert type(back) is type(plain)


def test_whole_numbers_stay_whole():
    assert to_value(5).WhichOneof("kind") == "int_value"
    assert to_value(5.0).WhichOneof("kind") == "double_value"
    assert to_value(True).WhichOneof("kind") == "bool_value"
    assert from_value(to_value(2**62 + 1)) == 2**62 + 1


def test_none_is_nothing_set():
    assert to_value(None).WhichOneof("kind") is None


def test_a_tuple_travels_as_a_list():
    assert from_value(to_value(("a", 1))) == ["a", 1]


def test_a_map_comes_back_sorted():
    assert list(from_map(to_map({"b": 1, "a": {"d": 2, "c": 3}}))) == ["a", "b"]


@pytest.mark.parametrize("wrong", [object(), {1, 2}, 1j, to_value, b"bytes", bytearray(b"x")])
def test_a_type_that_cannot_travel_is_named(wrong):
    with pytest.raises(BadOption, match=f"a value of type {type(wrong).__name__} cannot travel"):
        to_value(wrong)


@pytest.mark.parametrize("wrong", [2**63, -(2**63) - 1])
def test_a_whole_number_that_is_too_long_is_named(wrong):
    with pytest.raises(BadOption, match=f"{wrong} is too long"):
        to_value(wrong)


def nested(levels, around):
    plain = 1
    for _ in range(levels):
        plain = around(plain)
    return plain


@pytest.mark.parametrize("around", [lambda inner: [inner], lambda inner: {"a": inner}], ids=["lists", "maps"])
def test_what_is_nested_too_deeply_to_be_read_is_refused(around):
    deepest = nested(DEEPEST, around)
    assert from_value(Value.FromString(to_value(deepest).SerializeToString())) == deepest
    for levels in (DEEPEST + 1, 500):
        with pytest.raises(BadOption, match="deeper than 16 levels"):
            to_value(nested(levels, around))


def test_what_holds_itself_is_refused():
    endless = []
    endless.append(endless)
    with pytest.raises(BadOption, match="deeper than 16 levels"):
        to_map({"a": endless})


def test_a_text_that_is_no_unicode_is_named():
    with pytest.raises(BadOption, match="cannot travel"):
        to_value("\udcff")
