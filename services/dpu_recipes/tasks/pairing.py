"""Dome flats put in pairs: two that follow each other, alike in filter, exposure time and level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpu_recipes.ccd.pairs import Exposed
    from dpu_recipes.frames import Frame

#: Exposure times that differ by less, part of them, are one: some shutters tell how long they really were open.
SAME_TIME = 1e-3


@dataclass(frozen=True, slots=True)
class LitFlat:
    """A raw flat whose level is known."""

    frame: Frame
    exposed: Exposed
    #: Mean light, ADU above overscan and bias.
    level: float


def paired(flats: Sequence[LitFlat], agreement: float) -> tuple[list[tuple[LitFlat, LitFlat]], dict[str, str]]:
    """Return the pairs among flats, which are in order of time, and by file name why the others have no partner.

    `agreement` is how far the levels of a pair may differ, part of them. A flat that has no partner behind it is left
    out, and the next one looks for its own.
    """
    pairs, refused = [], {}
    rest = list(flats)
    while rest:
        flat = rest.pop(0)
        reason = _reason(flat, rest[0] if rest else None, agreement)
        if reason:
            refused[flat.frame.file_name] = reason
        else:
            pairs.append((flat, rest.pop(0)))
    return pairs, refused


def _reason(flat: LitFlat, following: LitFlat | None, agreement: float) -> str:
    """Return why two flats are no pair; '' where they are one."""
    frame = flat.frame
    if following is None or not (
        frame.filter == following.frame.filter
        and math.isclose(frame.exptime, following.frame.exptime, rel_tol=SAME_TIME)
    ):
        return f"no flat of filter {frame.filter!r} and {frame.exptime:g} s follows it"
    off = flat.level / following.level - 1
    if abs(off) > agreement:
        return (
            f"its level of {flat.level:.0f} ADU is {100 * off:+.1f} % off the {following.level:.0f} ADU "
            f"of {following.frame.file_name}"
        )
    return ""
