"""Who visits: a token in a cookie, and the services called in the visitor's name."""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpu.channel import open_async_channel
from dpu_api.v1.logs_pb2_grpc import LogServiceStub
from dpu_api.v1.scheduler_pb2_grpc import SchedulerServiceStub

if TYPE_CHECKING:
    from grpc import aio

#: Visitors whose channels are kept open; whoever comes again later gets new ones.
REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who is signed in, in one project."""

    token: str
    project: str
    user: str

    @property
    def stamp(self) -> str:
        """What every form carries: nobody else's page can know it (cross-site request forgery)."""
        return hmac.new(self.token.encode(), b"form", hashlib.sha256).hexdigest()

    def sent(self, stamp: str) -> bool:
        """Return whether a form with `stamp` came from a page of ours."""
        return hmac.compare_digest(stamp, self.stamp)


@dataclass(frozen=True, slots=True)
class Entry:
    """Lets in, once, whoever started the page on their own machine: in their own name, without typing a token."""

    key: str
    token: str
    project: str


@dataclass(frozen=True, slots=True)
class Services:
    """The services, called in a visitor's name."""

    scheduler: SchedulerServiceStub
    logs: LogServiceStub
    channels: tuple[aio.Channel, ...]


class Doors:
    """Channels to the services, one set a visitor."""

    def __init__(self, scheduler: str, logs: str) -> None:
        self._scheduler = scheduler
        self._logs = logs
        self._open: OrderedDict[tuple[str, str], Services] = OrderedDict()

    def services(self, token: str, project: str) -> Services:
        """Return the services for whoever has `token`, in `project`."""
        key = token, project
        services = self._open.pop(key, None)
        if services is None:
            services = self._opened(token, project)
        self._open[key] = services
        if len(self._open) > REMEMBERED:
            # Its calls go on: a channel that nobody holds closes when its last one has ended.
            self._open.popitem(last=False)
        return services

    async def close(self) -> None:
        """Close all channels."""
        while self._open:
            for channel in self._open.popitem()[1].channels:
                await channel.close()

    def _opened(self, token: str, project: str) -> Services:
        scheduler = open_async_channel(self._scheduler, token, project)
        logs = scheduler if self._logs == self._scheduler else open_async_channel(self._logs, token, project)
        at: Any = scheduler  # the stubs' types know the synchronous channel, too
        return Services(SchedulerServiceStub(at), LogServiceStub(logs), tuple({scheduler, logs}))
