import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dpu_recipes.archive import MissingCalibration, Selection
from dpu_recipes.frames import Frame
from dpu_recipes.night import night_of
from dpu_recipes.validity import CALIBRATIONS, IGNORING_FILTER_AND_OBJECT, choose, make_call, matches, window

LA_SILLA = -70.7346
NIGHT = date(2000, 4, 28)


def raw(**changes: Any) -> Frame:
    frame = Frame(
        id="raw",
        frame_class="RawScienceFrame",
        instrument="WFI",
        chip="ccd50",
        filter="#842",
        object="CDF4_B_3",
        night=NIGHT,
        date_obs=datetime(2000, 4, 29, 4, 0, tzinfo=UTC),
        exptime=300.0,
        readout="1x1 2048x4096",
        file_name="WFI.2000-04-29T04:00:00.000_1.fits",
        values={"EXPOSURE": "WFI-obs17.fits.fz"},
    )
    return frame.evolve(**changes)


def made(frame_class: str = "BiasFrame", night: date = NIGHT, **changes: Any) -> Frame:
    start, end = window(frame_class, night, LA_SILLA)
    frame = Frame(
        id=f"{frame_class}-{night}",
        frame_class=frame_class,
        instrument="WFI",
        chip="ccd50",
        night=night,
        date_obs=datetime(2000, 4, 28, 22, 0, tzinfo=UTC),
        readout="1x1 2048x4096",
        overscan=6,
        file_name=f"{frame_class}-{night}.fits",
        timestamp_start=start,
        timestamp_end=end,
        creation_date=datetime(2000, 5, 10, tzinfo=UTC),
    )
    return frame.evolve(**changes)


def later(days: int) -> datetime:
    return datetime(2000, 5, 10, tzinfo=UTC) + timedelta(days=days)


# Windows


def test_three_and_a_half_nights_on_each_side_are_seven_nights_from_noon_to_noon() -> None:
    start, end = window("BiasFrame", NIGHT, LA_SILLA)
    assert end - start == timedelta(days=7)
    assert night_of(start, LA_SILLA) == date(2000, 4, 25)
    assert night_of(start - timedelta(seconds=1), LA_SILLA) == date(2000, 4, 24)
    assert night_of(end - timedelta(seconds=1), LA_SILLA) == date(2000, 5, 1)


@pytest.mark.parametrize(
    ("frame_class", "days"),
    [("ReadNoise", 30), ("GainLinearity", 30), ("FringeFrame", 30), ("HotPixelMap", 7), ("PhotometricParameters", 1)],
)
def test_each_class_has_its_window(frame_class: str, days: int) -> None:
    start, end = window(frame_class, NIGHT, LA_SILLA)
    assert end - start == timedelta(days=days)
    assert start + (end - start) / 2 == datetime(2000, 4, 29, 4, 42, 56, 304000, tzinfo=UTC)


# The choice


def test_a_product_of_the_same_night_wins_over_a_newer_one_of_another() -> None:
    mine, newer = made(), made(night=date(2000, 4, 27), creation_date=later(5))
    assert choose("BiasFrame", raw(), [newer, mine]) == (mine, "same night, newest of 1")


def test_the_newest_of_the_same_night_wins() -> None:
    old, new = made(id="z"), made(id="a", creation_date=later(1))
    assert choose("BiasFrame", raw(), [new, old]) == (new, "same night, newest of 2")


def test_without_one_of_the_night_the_newest_whose_window_covers_the_frame_wins() -> None:
    near = made(night=date(2000, 4, 29))
    newer = made(night=date(2000, 4, 26), creation_date=later(1))
    chosen, why = choose("BiasFrame", raw(), [near, newer])
    assert chosen == newer
    assert why == "night 2000-04-26, valid until 2000-04-30 16:42, newest of 2"


def test_of_two_made_at_the_same_moment_the_choice_does_not_depend_on_their_order() -> None:
    twins = [made(id="a"), made(id="b")]
    assert choose("BiasFrame", raw(), twins) == choose("BiasFrame", raw(), twins[::-1])


def test_a_bootstrap_product_is_told_of() -> None:
    for_ever = made(
        night=date(1999, 1, 1),
        timestamp_start=datetime(1990, 1, 1, tzinfo=UTC),
        timestamp_end=datetime(2100, 1, 1, tzinfo=UTC),
    )
    assert choose("BiasFrame", raw(), [for_ever]) == (for_ever, "bootstrap, valid for ever, newest of 1")


def test_a_window_includes_its_start_and_not_its_end() -> None:
    product = made()
    assert choose("BiasFrame", raw(date_obs=product.timestamp_start), [product])[0] == product
    with pytest.raises(MissingCalibration):
        choose("BiasFrame", raw(date_obs=product.timestamp_end), [product])


UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"is_valid": False}, "is_valid=0"),
    ({"quality_flags": 5}, "quality_flags=5"),
    ({"readout": "2x2 1024x2048"}, "read-out mode '2x2 1024x2048' instead of '1x1 2048x4096'"),
    ({"timestamp_end": datetime(2000, 4, 29, tzinfo=UTC)}, "valid from 2000-04-25 16:42 to 2000-04-29 00:00"),
]


@pytest.mark.parametrize(("changes", "why"), UNFIT)
def test_a_product_that_may_not_be_used_is_named_with_what_it_fails_on(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(MissingCalibration) as caught:
        choose("BiasFrame", raw(), [made(**changes)])
    assert str(caught.value) == (
        "no valid BiasFrame for WFI.2000-04-29T04:00:00.000_1.fits (WFI ccd50, night 2000-04-28): "
        f"the nearest: BiasFrame-2000-04-28.fits of 2000-04-28: {why}. "
        "Make one: dpu.run('Bias', i='WFI', d='2000-04-28', C=1)"
    )


@pytest.mark.parametrize("changes", [{"instrument": "OMEGACAM"}, {"chip": "ccd51"}, {"frame_class": "ReadNoise"}])
def test_products_of_other_chips_and_classes_are_not_looked_at(changes: dict[str, Any]) -> None:
    with pytest.raises(MissingCalibration) as caught:
        choose("BiasFrame", raw(), [made(**changes)])
    assert str(caught.value) == (
        "no valid BiasFrame for WFI.2000-04-29T04:00:00.000_1.fits (WFI ccd50, night 2000-04-28): "
        "there is none at all. Make one: dpu.run('Bias', i='WFI', d='2000-04-28', C=1)"
    )


def test_the_nearest_three_are_named_and_the_rest_counted() -> None:
    far = [made(night=NIGHT + timedelta(days=days)) for days in (40, -20, 10, 30, 90)]
    with pytest.raises(MissingCalibration) as caught:
        choose("BiasFrame", raw(), far)
    named = [text.split(":")[0] for text in str(caught.value).split("the nearest: ")[1].split("; ")]
    assert named == [f"BiasFrame-2000-0{day}.fits of 2000-0{day}" for day in ("5-08", "4-08", "5-28")]
    assert ", and 2 more. Make one: " in str(caught.value)


def test_a_bias_is_chosen_by_its_overscan_method_where_that_is_asked_for() -> None:
    six, ten = made(), made(id="ten", overscan=10, creation_date=later(-3))
    assert choose("BiasFrame", raw(), [six, ten], overscan=10)[0] == ten
    assert choose("BiasFrame", raw(), [six, ten])[0] == six
    with pytest.raises(MissingCalibration, match=r"overscan method 6 instead of 0\. Make one: .*, oc=0, C=1\)"):
        choose("BiasFrame", raw(), [six], overscan=0)


def test_flats_serve_their_own_filter_only() -> None:
    other, own = made("DomeFlatFrame", filter="#843", creation_date=later(1)), made("DomeFlatFrame", filter="#842")
    assert choose("DomeFlatFrame", raw(), [other, own])[0] == own
    with pytest.raises(MissingCalibration, match="filter '#843' instead of '#842'"):
        choose("DomeFlatFrame", raw(), [other])


def test_a_bias_serves_any_filter() -> None:
    assert choose("BiasFrame", raw(filter="#843"), [made(filter="")])[0].frame_class == "BiasFrame"


def test_the_call_for_a_flat_names_its_filter() -> None:
    expected = "dpu.run('TwilightFlat', i='WFI', d='2000-04-28', f='#842', C=1)"
    assert make_call("TwilightFlatFrame", raw()) == expected


# Selections


@pytest.mark.parametrize(
    "selection",
    [
        Selection(instrument="WFI"),
        Selection(instrument="WFI", night="2000-04-28"),
        Selection(instrument="WFI", chips=("ccd51", "ccd50")),
        Selection(instrument="WFI", filter="#842"),
        Selection(instrument="WFI", object="CDF4_B_?"),
        Selection(instrument="WFI", object="CDF4*"),
        Selection(instrument="WFI", night="1999-01-01", file_names=("WFI.2000-04-29T04:00:00.000_1.fits",)),
        Selection(instrument="WFI", file_names=("WFI.2000-04-29T04:00:00.000_1",)),
        Selection(instrument="WFI", file_names=("WFI.2000-04-29T04:00:00.000.fits",)),
        Selection(instrument="WFI", file_names=("nothing.fits", "WFI-obs17.fits.fz")),
        Selection(instrument="WFI", file_names=("WFI-obs17.fits",)),
        Selection(instrument="WFI", file_names=("/data/WFI-obs17.fits.fz",)),
    ],
)
def test_a_frame_that_fits_is_selected(selection: Selection) -> None:
    assert matches(raw(), selection)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(instrument="OMEGACAM"),
        Selection(instrument="WFI", night="2000-04-29"),
        Selection(instrument="WFI", chips=("ccd51",)),
        Selection(instrument="WFI", filter="#843"),
        Selection(instrument="WFI", object="CDF4_B_"),
        Selection(instrument="WFI", object="[C]DF4_B_3"),
        Selection(instrument="WFI", night="2000-04-28", file_names=("WFI.2000-04-29T04:00:00.000_2.fits",)),
        Selection(instrument="WFI", file_names=("",)),
    ],
)
def test_a_frame_that_does_not_fit_is_not_selected(selection: Selection) -> None:
    assert not matches(raw(), selection)


def test_filter_and_object_of_a_bias_are_not_asked() -> None:
    selection = Selection(instrument="WFI", filter="#843", object="NGC*", chips=("ccd50",))
    bias = raw(frame_class="RawBiasFrame", object="BIAS")
    assert matches(bias, selection)
    assert not matches(bias.evolve(chip="ccd51"), selection)
    assert not matches(raw(), selection)


# The documentation

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def test_the_table_of_windows_in_the_documentation_is_that_of_the_code() -> None:
    pattern = r"^\| (\w+) \| (\w+) \| \+-([\d.]+) \| (yes|) ?\|$"
    rows = re.findall(pattern, (REFERENCE / "validity.md").read_text(), re.MULTILINE)
    expected = [
        (name, kind.sequence, f"{kind.nights:g}", "yes" if kind.by_filter else "")
        for name, kind in CALIBRATIONS.items()
    ]
    assert rows == expected


def test_the_classes_without_filter_and_object_are_documented() -> None:
    text = (REFERENCE / "selection.md").read_text()
    assert [name for name in sorted(IGNORING_FILTER_AND_OBJECT) if name not in text] == []
