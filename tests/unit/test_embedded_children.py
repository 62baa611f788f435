"""The services that the embedded DPU keeps running."""

import asyncio
import errno
from pathlib import Path

import pytest

from dpu.local import Home
from dpud import embedded


class Child:
    """A process that ends when it is asked to."""

    returncode = 0

    def __init__(self) -> None:
        self._lives = True

    async def wait(self) -> int:
        if self._lives:
            self._lives = False
            await asyncio.get_running_loop().create_future()
        return self.returncode


async def test_a_service_for_which_the_machine_has_no_room_is_started_when_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = asyncio.Event()
    tried: list[str] = []

    async def run(*command: str, **_options: object) -> Child:
        tried.append(command[-1])
        if len(tried) == 1:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        started.set()
        return Child()

    monkeypatch.setattr(asyncio, "create_subprocess_exec", run)
    settings = embedded.Settings(home=Home(tmp_path), slots=1, idle_s=1.0)
    async with embedded._child(settings, "archive"):
        await asyncio.wait_for(started.wait(), 60)
    assert tried == ["archive", "archive"]
