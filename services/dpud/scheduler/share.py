"""Fair share: whose turn it is, by what everybody used lately."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: What was used this long ago counts half.
HALF_LIFE_S = 86_400.0
#: What a slot that is held right now counts on top of its charge, in slot-seconds: a user whose tasks run
#: longer than estimated has been charged too little so far.
RUNNING_SLOT_S = 60.0
#: One lease in so many goes by age alone, so that nobody starves.
BY_AGE_EVERY = 5


@dataclass(frozen=True, slots=True)
class Usage:
    """Slot-seconds of one user, decayed to the time `at`."""

    slot_s: float = 0.0
    at: float = 0.0

    def decayed(self, now: float) -> float:
        """Return the slot-seconds as they count at `now`."""
        return self.slot_s * math.pow(0.5, max(0.0, now - self.at) / HALF_LIFE_S)

    def charged(self, slot_s: float, now: float) -> Usage:
        """Return the usage after a charge, or a correction when it is negative."""
        return Usage(max(0.0, self.decayed(now) + slot_s), max(now, self.at))


def standing(usage: Usage, running: int, now: float) -> float:
    """Return how much a user has had; who had least is next."""
    return usage.decayed(now) + running * RUNNING_SLOT_S


def goes_by_age(grants: int) -> bool:
    """Return whether the lease after so many goes by age alone."""
    return grants % BY_AGE_EVERY == BY_AGE_EVERY - 1


def rotated(users: list[str], grants: int) -> list[str]:
    """Return the users in the order in which a lease by age asks them: another one first each time."""
    first = grants // BY_AGE_EVERY % len(users) if users else 0
    return users[first:] + users[:first]
