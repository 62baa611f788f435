from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from dpu_recipes.night import BadNight, midnight_of, night_of, parse_night

LA_SILLA = -70.7346
LICK = -121.6429
SIDING_SPRING = 149.07


def test_a_frame_after_midnight_belongs_to_the_evening_before() -> None:
    assert night_of(datetime(2000, 4, 29, 0, 4, tzinfo=UTC), LA_SILLA) == date(2000, 4, 28)


@pytest.mark.parametrize(
    ("longitude", "noon"),
    [
        (LA_SILLA, datetime(2000, 4, 28, 16, 42, 56, 304000, tzinfo=UTC)),
        (SIDING_SPRING, datetime(2000, 4, 28, 2, 3, 43, 200000, tzinfo=UTC)),
        (0.0, datetime(2000, 4, 28, 12, tzinfo=UTC)),
        (180.0, datetime(2000, 4, 29, 0, tzinfo=UTC)),
    ],
)
def test_a_night_begins_at_local_noon(longitude: float, noon: datetime) -> None:
    assert night_of(noon - timedelta(seconds=1), longitude) == date(2000, 4, 27)
    assert night_of(noon + timedelta(seconds=1), longitude) == date(2000, 4, 28)
    assert night_of(noon + timedelta(hours=23, minutes=59), longitude) == date(2000, 4, 28)


def test_a_longitude_counted_to_360_degrees_gives_the_same_night() -> None:
    evening = datetime(2024, 5, 13, 1, 59, 58, tzinfo=UTC)
    assert night_of(evening, LICK) == night_of(evening, LICK + 360) == date(2024, 5, 12)


def test_a_time_of_another_zone_is_taken_for_what_it_is() -> None:
    chile = timezone(timedelta(hours=-4))
    assert night_of(datetime(2000, 4, 28, 20, 4, tzinfo=chile), LA_SILLA) == date(2000, 4, 28)


def test_midnight_is_twelve_hours_after_the_noon_that_the_night_begins_at() -> None:
    middle = midnight_of(date(2000, 4, 28), LA_SILLA)
    assert middle == datetime(2000, 4, 29, 4, 42, 56, 304000, tzinfo=UTC)
    assert night_of(middle - timedelta(hours=12), LA_SILLA) == date(2000, 4, 28)
    assert night_of(middle - timedelta(hours=12, seconds=1), LA_SILLA) == date(2000, 4, 27)


def test_a_night_is_read_from_its_date() -> None:
    assert parse_night("2000-04-28") == date(2000, 4, 28)


@pytest.mark.parametrize(
    "text", ["", "28-04-2000", "2000-4-28", "20000428", "2000-04-28T00:00", "2000-W17-5", "tonight"]
)
def test_a_text_that_is_no_date_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(BadNight) as caught:
        parse_night(text)
    assert str(caught.value) == f"{text!r} is not a night: write it as 'CCYY-MM-DD', e.g. '2000-04-28'"


def test_a_day_that_the_calendar_does_not_have_is_refused() -> None:
    with pytest.raises(BadNight, match="'2001-02-29' is not a night: there is no such day in the calendar"):
        parse_night("2001-02-29")
