"""Code shipping as a process: settings and wiring."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpud.codeship.service import NAME, CodeServicer
from dpud.codeship.store_files import FileCodeStore
from dpud.hosting.folder import owned
from dpud.hosting.server import listening, until_stopped
from dpud.hosting.settings import Environment, Listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from grpc import aio


@dataclass(frozen=True, slots=True)
class Settings:
    """What code shipping is told."""

    listening: Listening
    #: The folder that holds blobs and trees.
    state: Path

    @classmethod
    def read(cls, environment: Environment) -> Settings:
        """Read DPU_STATE and what every service that listens reads."""
        return cls(listening=Listening.read(environment), state=environment.get("DPU_STATE", Path))


@asynccontextmanager
async def built(settings: Settings) -> AsyncIterator[list[tuple[str, Callable[[aio.Server], None]]]]:
    """Open the store; yield what to put on a server."""
    with owned(settings.state):
        store = FileCodeStore(settings.state / "code")
        try:
            yield [(NAME, CodeServicer(store).add_to)]
        finally:
            store.close()


async def main(environment: Environment) -> None:
    """Serve until the process is told to stop."""
    settings = Settings.read(environment)
    async with built(settings) as services, listening(settings.listening, services):
        await until_stopped()
