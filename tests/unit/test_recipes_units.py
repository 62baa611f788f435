"""Units of what headers say: beside the number, or by the camera's file."""

import pytest

from dpu_recipes import units
from dpu_recipes.header import HeaderError


@pytest.mark.parametrize(
    ("value", "unit", "seconds"),
    [
        (1.5, "s", 1.5),
        (1500, "ms", 1.5),
        ("1500", "ms", 1.5),
        ("1.5e6 us", "s", 1.5),
        ("1.5 sec", "ms", 1.5),
        ("1500.0 [msec]", "s", 1.5),
        (".025 min", "s", 1.5),
        ("-3 hours", "s", -10800.0),
    ],
)
def test_a_time_is_in_the_unit_beside_it_or_else_in_that_of_the_camera(
    value: object, unit: str, seconds: float
) -> None:
    assert units.seconds({"EXPTIME": value}, ["EXPTIME"], unit) == pytest.approx(seconds)


@pytest.mark.parametrize("value", ["5 parsec", "5 e-", "5 s s"])
def test_a_unit_that_is_none_of_a_time_is_refused(value: str) -> None:
    with pytest.raises(HeaderError, match=f"EXPTIME='{value}': its unit is none of s, ms, us, min, h"):
        units.seconds({"EXPTIME": value}, ["EXPTIME"], "s")


@pytest.mark.parametrize("value", ["five s", "s", "5..5 s"])
def test_what_is_no_number_is_refused(value: str) -> None:
    with pytest.raises(HeaderError, match="EXPTIME=.* is not a finite number"):
        units.seconds({"EXPTIME": value}, ["EXPTIME"], "s")


@pytest.mark.parametrize(
    ("value", "unit", "gain"),
    [
        (2.5, "e-/ADU", 2.5),
        (0.4, "ADU/e-", 2.5),
        ("2.5 electrons/DN", "ADU/e-", 2.5),
        ("0.4 (adu/e)", "e-/ADU", 2.5),
        (0, "ADU/e-", 1.7),
        (-1.0, "e-/ADU", 1.7),
        (None, "e-/ADU", 1.7),
    ],
)
def test_a_gain_may_be_the_wrong_way_round(value: object, unit: str, gain: float) -> None:
    assert units.gain({"GAIN": value}, ["GAIN"], unit, 1.7) == pytest.approx(gain)


@pytest.mark.parametrize(
    ("value", "unit", "noise"),
    [(5.0, "e-", 2.0), (2.0, "ADU", 2.0), ("5 electrons", "ADU", 2.0), (0.0, "e-", 3.3), (None, "e-", 3.3)],
)
def test_electrons_are_divided_by_the_gain(value: object, unit: str, noise: float) -> None:
    found = units.counts({"RDNOISE": value}, ["RDNOISE"], "read_noise", unit, default=3.3, gain=2.5)
    assert found == pytest.approx(noise)
