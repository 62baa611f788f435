"""Who visits: a token in a cookie, and the services called in the visitor's name."""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpu.channel import open_async_channel
from dpu_api.v1.archive_pb2_grpc import ArchiveServiceStub
from dpu_api.v1.codeship_pb2_grpc import CodeServiceStub
from dpu_api.v1.logs_pb2_grpc import LogServiceStub
from dpu_api.v1.scheduler_pb2_grpc import SchedulerServiceStub

if TYPE_CHECKING:
    from grpc import aio

    from dpud.web.places import Place

#: Visitors whose channels are kept open; whoever comes again later gets new ones.
REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who is signed in, in one project."""

    token: str
    project: str
    #: Whose jobs are "mine": a filter. Who calls is said by the token alone.
    user: str
    #: What the stamp of a form is made from, as long as somebody stays signed in; '' of one who only looks.
    seed: str
    #: What the token is renewed with; '' where it is not.
    refresh: str = ""

    @property
    def may_act(self) -> bool:
        """Whether this is somebody who has signed in, and no visitor who only looks."""
        return bool(self.seed)

    @property
    def stamp(self) -> str:
        """What every form carries: nobody else's page can know it (cross-site request forgery)."""
        return hmac.new(self.seed.encode(), self.user.encode(), hashlib.sha256).hexdigest()

    def sent(self, stamp: str) -> bool:
        """Return whether a form with `stamp` came from a page of ours."""
        return self.may_act and hmac.compare_digest(stamp.encode(), self.stamp.encode())


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
    archive: ArchiveServiceStub
    #: None where the pages do not know where it is.
    code: CodeServiceStub | None
    channels: tuple[aio.Channel, ...]


class Doors:
    """Channels to the services of one DPU, one set a visitor."""

    def __init__(self, place: Place) -> None:
        self._place = place
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
        place = self._place
        addresses = [place.scheduler, place.logs, place.archive, *([place.code] if place.code else [])]
        # Services of one address share a channel. The stubs' types know the synchronous one, too.
        at: dict[str, Any] = {}
        for text in dict.fromkeys(address.text for address in addresses):
            at[text] = open_async_channel(text, token, project)
        return Services(
            SchedulerServiceStub(at[place.scheduler.text]),
            LogServiceStub(at[place.logs.text]),
            ArchiveServiceStub(at[place.archive.text]),
            CodeServiceStub(at[place.code.text]) if place.code else None,
            tuple(at.values()),
        )
