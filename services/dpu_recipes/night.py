"""Nights: from local noon to local noon at the telescope, named by the date of the evening."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

_DEGREES_AN_HOUR = 15.0


class BadNight(ValueError):
    """A text that names no night; the message quotes it."""


def night_of(date_obs: datetime, longitude_deg: float) -> date:
    """Return the night that `date_obs` (UTC) belongs to, at a longitude counted positive to the east.

    Noon is that of mean solar time: the equation of time (17 minutes at most) moves no observation of the sky
    into another night.
    """
    local = date_obs.astimezone(UTC) + _ahead_of_greenwich(longitude_deg)
    return (local - timedelta(hours=12)).date()


def midnight_of(night: date, longitude_deg: float) -> datetime:
    """Return the middle of a night, UTC: twelve hours after its noon."""
    return datetime.combine(night + timedelta(days=1), time(), tzinfo=UTC) - _ahead_of_greenwich(longitude_deg)


def parse_night(text: str) -> date:
    """Return the night that 'CCYY-MM-DD' names. Raises BadNight."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        raise BadNight(f"{text!r} is not a night: write it as 'CCYY-MM-DD', e.g. '2000-04-28'")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadNight(f"{text!r} is not a night: there is no such day in the calendar") from None


def _ahead_of_greenwich(longitude_deg: float) -> timedelta:
    # Longitudes a whole turn apart are one place: 238.36 is -121.64.
    east = (longitude_deg + 180.0) % 360.0 - 180.0
    return timedelta(hours=east / _DEGREES_AN_HOUR)
