"""The queue page as a process: settings and wiring."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvicorn

from dpud.hosting.metrics import expose
from dpud.hosting.server import until_stopped
from dpud.hosting.settings import Address, BadSetting, Environment, Tls
from dpud.web.app import app
from dpud.web.places import Place, read_several
from dpud.web.visitors import Doors, Entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

log = structlog.get_logger(__name__)

#: How long pages that are being sent may go on after a stop was asked for; live ones never end by themselves.
GRACE_S = 3


@dataclass(frozen=True, slots=True)
class Settings:
    """What the queue page is told."""

    listen: Address
    #: The DPUs that it shows; of several, each under its name.
    places: tuple[Place, ...]
    tls: Tls | None = None
    #: Where browsers find it, 'https://queue.dpu.example'; '': where it listens.
    url: str = ""
    #: Who is let in without typing a token, by a key in the address.
    entry: Entry | None = None
    #: Where Prometheus reads what this process does.
    metrics: Address | None = None

    @classmethod
    def read(cls, environment: Environment) -> Settings:
        """Read DPU_LISTEN, DPU_METRICS_LISTEN, DPU_WEB_URL, DPU_WEB_KEY, the files of TLS, and the DPUs.

        These are those of DPU_WEB_DPUS, or the one that Place reads. Raises BadSetting.
        """
        several = environment.get("DPU_WEB_DPUS", Path, None)
        settings = cls(
            listen=environment.get("DPU_LISTEN", Address.parse),
            places=read_several(several) if several else (Place.read(environment),),
            tls=Tls.read(environment),
            url=environment.get("DPU_WEB_URL", _url, ""),
            entry=_entry(environment),
            metrics=environment.get("DPU_METRICS_LISTEN", Address.parse, None),
        )
        if not settings.listen.is_local and settings.tls is None:
            raise BadSetting(
                f"DPU_LISTEN={settings.listen.text!r}: refused, because beyond loopback tokens need TLS: "
                "set DPU_TLS_CERTIFICATE and DPU_TLS_KEY"
            )
        if not settings.listen.is_local and not settings.url and any(place.oidc_issuer for place in settings.places):
            raise BadSetting("DPU_OIDC_ISSUER: a provider has to know where it sends people back to: set DPU_WEB_URL")
        return settings

    @property
    def address(self) -> str:
        """Where browsers find it."""
        return self.url or f"{'https' if self.tls else 'http'}://{self.listen.text}"


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[^/?#\s]+/?", text):
        raise ValueError("must be 'https://HOST'")
    return text.rstrip("/")


def _entry(environment: Environment) -> Entry | None:
    key = environment.get("DPU_WEB_KEY", str, "")
    if not key:
        return None
    if environment.get("DPU_WEB_DPUS", str, ""):
        raise BadSetting("DPU_WEB_KEY: lets in to one DPU, and DPU_WEB_DPUS names several: set one of the two")
    return Entry(key, environment.secret("DPU_TOKEN_FILE"), environment.get("DPU_PROJECT", str, "default"))


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[str]:
    """Serve the pages until the block ends; give their address, as a browser has it."""
    doors = [Doors(place) for place in settings.places]
    pages = app(settings.places, doors, url=settings.address, entry=settings.entry)
    config = uvicorn.Config(
        pages,
        ssl_certfile=settings.tls.certificate if settings.tls else None,
        ssl_keyfile=settings.tls.key if settings.tls else None,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config)
    with _bound(settings.listen) as place:
        task = asyncio.create_task(server.serve(sockets=[place]))
        try:
            log.info("listening", address=settings.listen.text)
            yield f"{settings.address}/"
        finally:
            server.should_exit = True
            await asyncio.gather(task, return_exceptions=True)
            for each in doors:
                await each.close()


class _Server(uvicorn.Server):
    """Leaves signals to the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _bound(address: Address) -> socket.socket:
    """Return a socket that listens. Raises BadSetting."""
    try:
        if address.socket:
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(str(address.socket))
            listening.listen()
            return listening
        return socket.create_server((address.host, address.port))
    except OSError as error:
        raise BadSetting(f"DPU_LISTEN={address.text!r}: cannot listen there: {error.strerror}") from error


async def main(environment: Environment) -> None:
    """Serve until the process is told to stop."""
    settings = Settings.read(environment)
    if settings.metrics is not None:
        expose(settings.metrics, "web")
    async with serving(settings):
        await until_stopped()
