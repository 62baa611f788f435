"""The one stream, or waiting call, of each worker: a newer one has the older end at once."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from dpud.scheduler.model import Ref


class Poll:
    """One stream or call."""

    def __init__(self, bell: asyncio.Event, told: frozenset[Ref]) -> None:
        self.bell = bell
        self.superseded = False
        #: Cancels that the worker was told in earlier answers of this session.
        self.told = told


class Polls:
    """The streams and calls by session."""

    def __init__(self) -> None:
        self._polls: dict[str, Poll] = {}
        self._told: dict[str, frozenset[Ref]] = {}

    @contextmanager
    def open(self, session: str, bell: asyncio.Event) -> Iterator[Poll]:
        """Be the session's only one within the block."""
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

    def tell(self, session: str, poll: Poll, cancel: tuple[Ref, ...]) -> None:
        """Remember which cancels a session has been told; one that it does not hold any more is forgotten."""
        poll.told = frozenset(cancel)
        if poll.superseded:
            return
        if cancel:
            self._told[session] = poll.told
        else:
            self._told.pop(session, None)
