"""The way to one DPU: channels opened when first used, a deadline on every call, patience when it is lost."""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import grpc

import dpu
from dpu import tracing
from dpu.aside import aside
from dpu.channel import open_channel
from dpu.errors import DpuError, TimedOut, Unreachable
from dpu.status import from_rpc
from dpu_api.v1.archive_pb2_grpc import ArchiveServiceStub
from dpu_api.v1.codeship_pb2_grpc import CodeServiceStub
from dpu_api.v1.logs_pb2_grpc import LogServiceStub
from dpu_api.v1.scheduler_pb2 import GetDpuRequest
from dpu_api.v1.scheduler_pb2_grpc import SchedulerServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dpu.config import Config, KnownDpu
    from dpu.local import Local

Request = TypeVar("Request")
Answer = TypeVar("Answer")

DEADLINE_S = 30.0
#: How long a connection that worked before may be gone.
PATIENCE_S = 20.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the services of a DPU listen, and the token to call them with, or what gives it for each call."""

    token: str | Callable[[], str]
    scheduler: str
    archive: str
    logs: str
    code: str


@dataclass(frozen=True, slots=True)
class Services:
    """The open services of a DPU."""

    scheduler: SchedulerServiceStub
    archive: ArchiveServiceStub
    logs: LogServiceStub
    code: CodeServiceStub
    channels: tuple[grpc.Channel, ...]
    #: After a fork the child opens its own.
    pid: int
    #: Digests of code that is there, as far as it is known.
    shipped: set[str] = field(default_factory=set)


class Link:
    """Calls the services of one DPU in one project. May be used by several threads."""

    def __init__(self, known: KnownDpu, project: str, *, home: Path, say: Callable[[str], None]) -> None:
        self.name = f"DPU {known.name!r}"
        self.is_local = known.is_local
        self._known = known
        self._project = project
        self._home = home
        self._say = say
        self._lock = threading.Lock()
        self._services: Services | None = None
        self._where: Addresses | None = None
        self._reached = False
        self._announced = False
        os.register_at_fork(after_in_child=partial(_unlock, weakref.ref(self)))

    @classmethod
    def of(cls, config: Config, say: Callable[[str], None]) -> Link:
        """Return the way to the DPU in use, in the project in use."""
        return cls(config.find(config.dpu_name), config.project, home=config.home, say=say)

    def ask(
        self,
        pick: Callable[[Services], grpc.UnaryUnaryMultiCallable[Request, Answer]],
        request: Request,
        *,
        deadline: float = DEADLINE_S,
    ) -> Answer:
        """Return the answer of one call that may be repeated. Raises what it meant, as a DpuError."""
        return self.attempt(lambda services: pick(services)(request, timeout=deadline))

    def attempt(self, call: Callable[[Services], Answer]) -> Answer:
        """Return what `call` does with the services; it is repeated when the connection is lost."""
        return aside(lambda: self._persist(call))

    def _persist(self, call: Callable[[Services], Answer]) -> Answer:
        patience = self.patience()
        while True:
            try:
                answer = call(self.services())
            except (grpc.RpcError, Unreachable) as error:
                patience.lost(self.meaning(error))
            else:
                self.worked()
                return answer

    def meaning(self, error: Exception) -> DpuError:
        """Return what a failed call meant, as one of our errors."""
        return error if isinstance(error, DpuError) else from_rpc(error, self.name)

    def worked(self) -> None:
        """Note that a call was answered: a connection that is lost now was there before."""
        self._reached = True
        self._announced = False

    def patience(self) -> Patience:
        """Return the patience that one call deserves: none on a way that never worked."""
        return Patience(PATIENCE_S if self._reached else 0.0, self._announce, self._revive)

    def services(self) -> Services:
        """Return the services, opened where they are not. Raises Unreachable or NotLoggedIn."""
        with self._lock:
            if self._services is None or self._services.pid != os.getpid():
                self._where = self.locate()
                self._services = self._open(self._where)
            return self._services

    def close(self) -> None:
        """Close the channels; the next call opens new ones, and starts the embedded DPU anew if it is gone."""
        with self._lock:
            opened, self._services = self._services, None
        for channel in opened.channels if opened is not None and opened.pid == os.getpid() else ():
            channel.close()

    def _announce(self) -> None:
        """Say that the connection is lost: once, however many calls feel it."""
        with self._lock:
            if not self._announced:
                self._announced = True
                self._say(f"The connection to {self.name} is lost: trying again for {PATIENCE_S:.0f} seconds")

    def _revive(self) -> None:
        """Start the embedded DPU anew where it is gone. A channel to another connects again by itself."""
        if not self.is_local:
            return
        with self._lock:
            where = self.locate()
            if where != self._where:  # calls of other threads may still use the old channels: nobody closes them
                self._where, self._services = where, self._open(where)

    def _open(self, where: Addresses) -> Services:
        tracing.set_up("client", os.environ)
        addresses = {where.scheduler, where.archive, where.logs, where.code}
        places = {address: open_channel(address, where.token, self._project) for address in addresses}
        return Services(
            scheduler=SchedulerServiceStub(places[where.scheduler]),
            archive=ArchiveServiceStub(places[where.archive]),
            logs=LogServiceStub(places[where.logs]),
            code=CodeServiceStub(places[where.code]),
            channels=tuple(places.values()),
            pid=os.getpid(),
        )

    def locate(self) -> Addresses:
        """Return where the services are; the embedded DPU is started. Raises NotLoggedIn, and grpc.RpcError."""
        if self.is_local:
            local = _ensure(self._home, self._say)
            # It has just answered: one of its services that does not is on its way up.
            self._reached = True
            return Addresses(local.token, local.address, local.archive_address, local.address, local.address)
        known, token = self._known, self._known.credential()
        with open_channel(known.address, token, self._project) as channel:
            told = SchedulerServiceStub(channel).GetDpu(GetDpuRequest(), timeout=DEADLINE_S)
        self._compare(told.version)
        return Addresses(
            token=token,
            scheduler=known.address,
            archive=known.archive or told.archive_address or known.address,
            logs=known.logs or told.logs_address or known.address,
            code=known.code or told.code_address or known.address,
        )

    def _compare(self, version: str) -> None:
        """Say so when client and DPU differ by more than a patch, and which of the two is older."""
        theirs, ours = _release(version), _release(dpu.__version__)
        if theirs != ours:
            order = "newer" if theirs > ours else "older"
            advice = "pip install -U dpu" if theirs > ours else "what it does not know, it refuses"
            told = f"is of version {version or 'unknown'}, {order} than this client ({dpu.__version__})"
            self._say(f"{self.name} {told}: {advice}")


def _release(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version; of one that is unknown, none."""
    return tuple(int(number) for number in version.split(".")[:2] if number.isdigit())


class Patience:
    """How one call bears a lost connection: tries with growing pauses until the time is up."""

    def __init__(self, seconds: float, announce: Callable[[], None], revive: Callable[[], None]) -> None:
        self._seconds = seconds
        self._announce = announce
        self._revive = revive
        self._until: float | None = None
        self._pause = FIRST_PAUSE_S

    def lost(self, error: DpuError) -> None:
        """Wait before the next try. Raises `error` when another try is of no use or the time is up."""
        if not isinstance(error, Unreachable) or isinstance(error, TimedOut) or not self._seconds:
            raise error
        if self._until is None:
            self._until = time.monotonic() + self._seconds
            self._announce()
        if time.monotonic() > self._until:
            raise error
        time.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311 (spreads clients, keeps no secret)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        self._revive()


def _unlock(forked: weakref.ref[Link]) -> None:
    """Free a link in the child of a fork: the thread that held its lock, if any, is not there."""
    link = forked()
    if link is not None:
        link._lock = threading.Lock()  # noqa: SLF001 (its own module)


def _ensure(home: Path, say: Callable[[str], None]) -> Local:
    from dpu.local import ensure

    return ensure(home, say)
