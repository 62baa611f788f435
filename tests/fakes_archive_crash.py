"""An archive that is killed while it works, and what it must still have after that."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import subprocess
import sys
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import psutil
from grpc import RpcError, StatusCode

from dpu.errors import DpuError
from dpu_api.v1 import archive_pb2 as pb
from dpu_api.v1.archive_pb2_grpc import ArchiveServiceStub
from dpu_api.v1.job_pb2 import TaskRef
from dpud.archive.packing import unpack
from dpud.archive.records import Attempt
from dpud.worker.peers import answered
from fakes_archive import a_product, announced, files_of, write_quiet
from fakes_hosting import eventually, place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from pathlib import Path

    from fakes_hosting import Place

CHIPS = 2
PRODUCTS = 3
JOB = 1
#: How long an archive may take to answer on a machine that is busy.
START_S = 60.0
#: One kill in so many comes while the archive starts and sweeps.
EARLY = 5


class Campaign:
    """What is asked of an archive that keeps being killed, and what it has acknowledged."""

    def __init__(self, folder: Path, moments: random.Random) -> None:
        self._folder = folder
        self._moments = moments
        self._waiting: list[tuple[str, Any]] = []
        self._begun = 0
        self.ingested: set[str] = set()
        self.staged: set[tuple[int, int]] = set()
        self.published: set[int] = set()
        #: How many files it said it had frozen, and how many frozen ones were asked for and came.
        self.frozen = self.thawed = 0

    def _next(self) -> tuple[str, Any]:
        if self._waiting:
            return self._waiting.pop(0)
        self._begun += 1
        if self._begun % 3 == 0:
            return "product", self._begun
        second = self._begun
        name = f"r{second:04d}.fits"
        date_obs = f"2000-04-28T{20 + second // 3600}:{second // 60 % 60:02d}:{second % 60:02d}.000"
        write_quiet(self._folder / name, DATE_OBS=date_obs, MJD_OBS=None)
        return "exposure", name

    async def work(self, callers: dict[str, Any]) -> None:
        """Do one thing after the other until the archive is gone; what it did not acknowledge is asked again."""
        while True:
            kind, what = self._next()
            try:
                await (self._ingest if kind == "exposure" else self._make)(callers, what)
            except (RpcError, DpuError):
                self._waiting.append((kind, what))
                return

    async def _ingest(self, callers: dict[str, Any], name: str) -> None:
        file = pb.IngestFile(path=str(self._folder / name))
        await answered(callers["anna's"].Ingest(messages(pb.IngestRequest(file=file))), "the archive")
        self.ingested.add(name)

    async def tidy(self, callers: dict[str, Any]) -> None:
        """Ask for some of all that there is, and freeze the rest, again and again until the archive is gone."""
        which = pb.SeldomUsed(instrument="WFI")
        while True:
            try:
                frames = await everything(callers["anna's"], frame_class="RawBiasFrame")
                for frame in self._moments.sample(frames, min(2, len(frames))):
                    await self._fetch(callers["anna's"], frame)
                async for answer in callers["olga's"].FreezeFrames(pb.FreezeFramesRequest(which=which)):
                    self.frozen += not answer.file.reason
            except RpcError as error:
                if error.code() is not StatusCode.NOT_FOUND:  # nothing has come that could be frozen
                    return
                await asyncio.sleep(0.05)  # lets something come

    async def _fetch(self, stub: Any, frame: pb.Frame) -> None:
        digest = hashlib.sha256()
        async for answer in stub.FetchFrame(pb.FetchFrameRequest(id=frame.id)):
            digest.update(answer.chunk)
        assert digest.hexdigest() == frame.digest
        self.thawed += not frame.path

    async def _make(self, callers: dict[str, Any], task: int) -> None:
        for number in range(PRODUCTS):
            content = b"%d %d" % (task, number) * 10_000
            digest = hashlib.sha256(content).hexdigest()
            record = a_product(Attempt(JOB, task, 1), number, digest=digest, size=len(content))
            chunk = pb.StageProductRequest(chunk=content)
            staging = callers["worker's"].StageProduct(messages(announced(record, number), chunk))
            await answered(staging, "the archive")
            self.staged.add((task, number))
        ref = TaskRef(job_id=JOB, task=task, attempt=1)
        await callers["service's"].Publish(pb.PublishRequest(ref=ref, commit=True))
        self.published.add(task)

    async def check(self, callers: dict[str, Any], state: Path) -> None:
        """Compare what the archive has with what it acknowledged."""
        raw = await everything(callers["anna's"], frame_class="RawBiasFrame")
        chips = Counter(frame.values.entries["EXPOSURE"].string_value for frame in raw)
        assert set(chips.values()) <= {CHIPS}, f"half an exposure, or one twice: {chips}"
        assert self.ingested <= set(chips)
        made = await everything(callers["anna's"], job_id=JOB, only_job=True)
        assert len({(frame.ref.task, frame.file_name) for frame in made}) == len(made)
        products = Counter(frame.ref.task for frame in made)
        assert sum(products.values()) >= len(self.staged)
        assert max(products.values(), default=0) <= PRODUCTS, f"a product twice: {products}"
        shown = Counter(frame.ref.task for frame in made if frame.published)
        assert set(shown.values()) <= {PRODUCTS}, f"half an attempt published: {shown}"
        assert self.published <= set(shown)
        check_files(state, [*raw, *made])


async def messages(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def everything(stub: Any, **fields: Any) -> list[pb.Frame]:
    found: list[pb.Frame] = []
    token = ""
    while True:
        answer = await stub.ListFrames(pb.ListFramesRequest(page_token=token, **fields))
        found += answer.frames
        token = answer.next_page_token
        if not token:
            return found


def check_files(state: Path, frames: Iterable[pb.Frame]) -> None:
    """Fail unless the files are those of the frames, whole, each in one tier."""
    warm, cold = files_of(state), {file.name: file for file in (state / "cold").glob("??/??/*")}
    assert not warm & cold.keys()
    assert warm | cold.keys() == {frame.digest for frame in frames}
    for file in (state / "files").rglob("*"):
        if file.is_file():
            assert hashlib.sha256(file.read_bytes()).hexdigest() == file.name
    for name, file in cold.items():
        unpacked = state.parent / name
        assert unpack(file, unpacked) == name
        unpacked.unlink()


@contextmanager
def a_process(where: Place, state: Path, database: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the archive in a process of its own, which the block or its end kills."""
    settings = {
        "DPU_LISTEN": where.address,
        "DPU_TOKENS_FILE": str(where.listening.tokens),
        "DPU_STATE": str(state),
        "DPU_DATABASE": database,
    }
    with (state.parent / "archive.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dpud", "archive"], env={**os.environ, **settings}, stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@asynccontextmanager
async def calling(where: Place) -> AsyncIterator[dict[str, Any]]:
    async with AsyncExitStack() as stack:
        callers = {}
        for caller in ("anna's", "olga's", "worker's", "service's"):
            channel = await stack.enter_async_context(where.channel(caller))
            async with asyncio.timeout(START_S):
                await channel.channel_ready()
            callers[caller] = ArchiveServiceStub(channel)
        yield callers


async def killed(folder: Path, database: str, rounds: int) -> Campaign:
    """Kill an archive so often, at any moment, and hold it to its word each time it is back."""
    moments = random.Random(20000428)  # noqa: S311 (when to kill is no secret)
    state, campaign = folder / "state", Campaign(folder, moments)
    children: list[psutil.Process] = []
    state.mkdir()
    with place() as where:
        for turn in range(rounds):
            with a_process(where, state, database) as process:
                if turn % EARLY == EARLY - 1:
                    await asyncio.sleep(moments.uniform(0.3, 1.3))  # the moment of the kill is the experiment
                    process.kill()
                    continue
                async with calling(where) as callers:
                    await campaign.check(callers, state)
                    before, cold = len(campaign.ingested), campaign.frozen
                    working = asyncio.gather(*(campaign.work(callers) for _ in range(4)), campaign.tidy(callers))
                    # A parser that still loads its libraries would be killed over nothing.
                    await eventually(lambda: len(campaign.ingested) > before, lambda: campaign.ingested, START_S)  # noqa: B023 (ends in this round)
                    if turn % 2:
                        await eventually(lambda: campaign.frozen > cold, lambda: campaign.frozen, START_S)  # noqa: B023 (as above)
                    await asyncio.sleep(moments.uniform(0.0, 0.4))  # as above
                    children += psutil.Process(process.pid).children()
                    process.kill()
                    await working
        with a_process(where, state, database):
            async with calling(where) as callers:
                await campaign.check(callers, state)
    await eventually(lambda: not any(child.is_running() for child in children), lambda: children, START_S)
    return campaign
