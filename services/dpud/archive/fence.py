"""Which attempt at a task counts: an older one never adds to a newer one's products, nor an ended one to its own.

Pure decisions; the catalogues keep one fence a task and do as these say.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from dpu.errors import Conflict, StaleLease

if TYPE_CHECKING:
    from dpud.archive.records import Attempt


class State(StrEnum):
    """Where the newest attempt at a task stands."""

    STAGING = "staging"  # it may add products
    KEPT = "kept"  # ended well, of a job without commit: its products stay the job's own
    PUBLISHED = "published"  # ended well: the project sees its products
    DISCARDED = "discarded"  # counts for nothing


@dataclass(frozen=True, slots=True)
class Fence:
    """The newest attempt at a task that the archive has heard of."""

    newest: Attempt
    state: State


def staged(fence: Fence | None, attempt: Attempt) -> Fence:
    """Return the fence after `attempt` stages a product. Raises StaleLease where it may not."""
    if fence is None:
        return Fence(attempt, State.STAGING)
    if fence.newest.attempt > attempt.attempt:
        raise StaleLease(f"{attempt} is over: attempt {fence.newest.attempt} has taken its place")
    if fence.newest == attempt and fence.state is State.STAGING:
        return fence
    if fence.newest == attempt or fence.state in {State.PUBLISHED, State.KEPT}:
        raise StaleLease(f"{attempt} may add no product: attempt {fence.newest.attempt} is {fence.state} already")
    return Fence(attempt, State.STAGING)


def published(fence: Fence | None, attempt: Attempt, *, commit: bool) -> Fence:
    """Return the fence after the word that `attempt` ended well. Raises Conflict where another word stands."""
    settled = Fence(attempt, State.PUBLISHED if commit else State.KEPT)
    if fence is None or fence == settled:
        return settled
    if fence.newest == attempt and fence.state is State.STAGING:
        return settled
    if fence.newest.attempt < attempt.attempt and fence.state in {State.STAGING, State.DISCARDED}:
        return settled
    raise Conflict(f"{attempt} cannot be {settled.state}: attempt {fence.newest.attempt} is {fence.state}")


def discarded(fence: Fence | None, attempt: Attempt) -> Fence:
    """Return the fence after the word that `attempt` counts for nothing. Raises Conflict where it was published."""
    if fence is not None and fence.newest.attempt > attempt.attempt:
        return fence
    if fence is not None and fence.newest == attempt and fence.state in {State.PUBLISHED, State.KEPT}:
        raise Conflict(f"{attempt} is {fence.state}: nothing was removed")
    if fence is not None and fence.state in {State.PUBLISHED, State.KEPT}:
        return fence
    return Fence(attempt, State.DISCARDED)
