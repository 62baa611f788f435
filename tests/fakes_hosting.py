"""A real server on a Unix socket for tests, with a token for each kind of caller."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpu.channel import open_async_channel
from dpud.hosting.server import listening
from dpud.hosting.settings import Address, Listening
from dpud.hosting.tokens import digest_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from grpc import aio

#: Token, user, projects and role of everybody who calls in tests.
PEOPLE = {
    "anna's": ("anna", ["KIDS"], "user"),
    "bert's": ("bert", ["VST"], "user"),
    "carl's": ("carl", ["KIDS"], "user"),
    "olga's": ("olga", ["*"], "operator"),
    "worker's": ("worker", ["*"], "worker"),
    "service's": ("scheduler", ["*"], "service"),
}


@dataclass(frozen=True)
class Place:
    """Where a test's server is."""

    address: str
    listening: Listening

    @asynccontextmanager
    async def channel(self, token: str, project: str = "KIDS") -> AsyncIterator[aio.Channel]:
        async with open_async_channel(self.address, token, project) as channel:
            yield channel


@contextmanager
def place() -> Iterator[Place]:
    """Give a socket's address, in a folder with a short name (a socket's path has at most 107 bytes)."""
    folder = Path(tempfile.mkdtemp(prefix="dpu"))
    try:
        tokens = folder / "tokens.toml"
        tokens.write_text(
            "\n".join(
                f'[[token]]\nsha256 = "{digest_of(token)}"\nuser = "{user}"\n'
                f'projects = {projects}\nroles = ["{role}"]\n'
                for token, (user, projects, role) in PEOPLE.items()
            )
        )
        address = f"unix:{folder}/socket"
        yield Place(address, Listening(listen=Address.parse(address), tokens=tokens, metrics=None))
    finally:
        shutil.rmtree(folder)


@asynccontextmanager
async def served(services: Sequence[tuple[str, Callable[[aio.Server], None]]]) -> AsyncIterator[Place]:
    """Serve on a socket of its own."""
    with place() as where:
        async with listening(where.listening, services):
            yield where


async def eventually(condition: Callable[[], object], report: Callable[[], object], seconds: float = 5.0) -> None:
    """Return once `condition` holds; fail with `report` where it does not in time."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 (any condition of the test, so there is no event to wait for)
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"still not so after {seconds} s: {report()}") from None
