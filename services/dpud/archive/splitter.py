"""Splits exposures in processes of their own: dpud.archive.parser, a few of them, replaced when they crash."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from dpu.errors import BadFrame, StorageFull, Unreachable
from dpu_recipes.frames import Frame
from dpud.archive.picture import Picture
from dpud.archive.store_files import REFUSALS
from dpud.hosting.children import send_signal

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Mapping, Sequence

#: The class that a file which was reduced elsewhere is taken in as.
REDUCED = "ReducedScienceFrame"
#: Longer than this no file takes that we know of.
LIMIT_S = 300.0
#: Frames of one exposure in one answer.
_LINE = 16 << 20


class Offered(NamedTuple):
    """What a caller says of a file."""

    #: For messages.
    name: str
    #: The one that took it; '': its header says.
    instrument: str = ""
    #: Of a list of stars: the reference catalogue that it is for, and its columns by our names.
    catalogue: str = ""
    columns: Mapping[str, str] = MappingProxyType({})
    #: Of a file that was reduced elsewhere: its class, and class, file and name of each that belongs to it.
    frame_class: str = ""
    companions: tuple[tuple[str, str, str], ...] = ()


class Splitter:
    """A few parsers; each takes one file apart at a time."""

    def __init__(self, command: Sequence[str], *, processes: int = 2, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._parsers = [_Parser(command) for _ in range(processes)]
        # The one that was used last is warm.
        self._idle: asyncio.LifoQueue[_Parser] = asyncio.LifoQueue()
        for parser in self._parsers:
            self._idle.put_nowait(parser)

    @classmethod
    def of(cls, instruments: Path | None) -> Self:
        """Return the splitter that knows the instruments that ship, and those of a folder."""
        return cls([sys.executable, "-m", "dpud.archive.parser", str(instruments or "")])

    async def start(self) -> None:
        """Start a parser ahead of the first file: loading what it needs takes most of a second."""
        parser = self._idle.get_nowait()
        await parser.start()
        self._idle.put_nowait(parser)

    async def split(self, file: Path, offered: Offered, folder: Path) -> list[tuple[Frame, Path]]:
        """Return the frames of a file, each with its own in `folder`. Raises BadFrame and StorageFull."""
        request = {"file": str(file), "folder": str(folder), **offered._asdict(), "columns": dict(offered.columns)}
        answer = await self._written(request, folder)
        return [(Frame.from_dict(frame), Path(path)) for frame, path in answer["frames"]]

    async def draw(self, file: Path, name: str, size: int) -> Picture:
        """Return the picture of a file's image, at most `size` pixels along a side. Raises BadFrame."""
        answer = await self._ask({"file": str(file), "name": name, "size": size})
        _check(answer)
        png, *rest = answer["picture"]
        return Picture(base64.b64decode(png), *rest)

    async def pack(self, file: Path, name: str, target: Path) -> int:
        """Write a FITS file of images packed, and return its size then. Raises BadFrame and StorageFull."""
        request = {"pack": str(file), "name": name, "target": str(target)}
        size: int = (await self._written(request, target.parent))["size"]
        return size

    async def unpack(self, file: Path, name: str, target: Path) -> str:
        """Write a packed file as it was before, and return its digest. Raises BadFrame and StorageFull."""
        request = {"unpack": str(file), "name": name, "target": str(target)}
        digest: str = (await self._written(request, target.parent))["digest"]
        return digest

    async def _written(self, request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Return the answer to what makes files in a folder. Raises BadFrame and StorageFull."""
        answer = await self._ask(request)
        if answer.get("errno") in REFUSALS:
            raise StorageFull(f"{folder.parent} takes nothing more: {answer['bad']}: nothing was stored")
        _check(answer)
        return answer

    async def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a parser that is free answers. Raises BadFrame where it takes too long or ends over it."""
        parser = await self._idle.get()
        try:
            async with asyncio.timeout(self._limit_s):
                return await parser.ask(request)
        except TimeoutError:
            raise BadFrame(f"{request['name']}: taking it apart took longer than {self._limit_s:.0f} s") from None
        finally:
            self._idle.put_nowait(parser)

    async def close(self) -> None:
        """End the parsers; who waits for one, or asks for one from now on, is told Unreachable."""
        for parser in self._parsers:
            await parser.close()


class _Parser:
    """One process, started again after a crash."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: Process | None = None
        self._is_closed = False

    async def start(self) -> Process:
        """Return the process, running. Raises Unreachable when none is to be started any more."""
        self._check_open()
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, cwd="/", limit=_LINE
            )
            if self._is_closed:
                await self.stop()
                self._check_open()
        return self._process

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unreachable("the archive is going down: try again")

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to a request. Raises BadFrame where the process ended over it, Unreachable when closed."""
        warm = self._process is not None
        line = await self._exchange(request)
        if not line:
            self._check_open()
        if not line and warm:
            # It may have ended while it waited, or of what the file before did to it: a fresh one tells.
            await self.stop()
            line = await self._exchange(request)
        if not line:
            raise BadFrame(f"{request['name']}: taking it apart ended the parser: {_end(await self.stop())}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def _exchange(self, request: Mapping[str, Any]) -> bytes:
        """Send a line and return the one that comes back, b'' where the process ended instead."""
        process = await self.start()
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("a process that was started with pipes has none")
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            return await stdout.readline()
        except BaseException:
            # Whoever asked has gone: what the process still writes would be the answer to the next request.
            await self.stop()
            raise

    async def close(self) -> None:
        """End the process, and start no other."""
        self._is_closed = True
        await self.stop()

    async def stop(self) -> int:
        """End the process at once, which holds nothing; return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        send_signal(process, signal.SIGKILL)
        return await process.wait()


def _check(answer: Mapping[str, Any]) -> None:
    if "bad" in answer:
        raise BadFrame(" ".join(answer["bad"].split()))


def _end(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
