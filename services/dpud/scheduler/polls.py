"""The one waiting call of each worker: a newer one has the older answered at once."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from dpud.scheduler.watchers import heard

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from dpud.scheduler.model import Ref


class Poll:
    """One waiting call."""

    def __init__(self, bell: asyncio.Event, told: frozenset[Ref]) -> None:
        self.bell = bell
        self.superseded = False
        #: Cancels that the worker was told in earlier answers of this session.
        self.told = told

    async def goes_on(self, timeout: float) -> bool:  # noqa: ASYNC109 (a time-out is an answer here)
        """Wait; return whether the bell rang, and not because of a newer call or the time."""
        return await heard(self.bell, timeout) and not self.superseded


class Polls:
    """The waiting calls by session."""

    def __init__(self) -> None:
        self._polls: dict[str, Poll] = {}
        self._told: dict[str, frozenset[Ref]] = {}

    @contextmanager
    def open(self, session: str, bell: asyncio.Event) -> Iterator[Poll]:
        """Wait as the session's only call."""
        older = self._polls.get(session)
        if older:
            older.superseded = True
            older.bell.set()
        poll = self._polls[session] = Poll(bell, self._told.get(session, frozenset()))
        try:
            yield poll
        finally:
            if self._polls.get(session) is poll:
                del self._polls[session]

    def tell(self, session: str, cancel: tuple[Ref, ...]) -> None:
        """Remember which cancels a session has been told; one that it does not hold any more is forgotten."""
        if cancel:
            self._told[session] = frozenset(cancel)
        else:
            self._told.pop(session, None)
