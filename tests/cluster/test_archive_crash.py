"""The archive killed at random, and on a full disk: nothing half-written, nothing lost, nothing twice."""

import asyncio
import hashlib
import os
import random
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager, contextmanager

import psutil
import pytest
from grpc import RpcError

from dpu.errors import StorageFull
from dpu.status import from_rpc
from dpu_api.v1 import archive_pb2 as pb
from dpu_api.v1.archive_pb2_grpc import ArchiveServiceStub
from dpu_api.v1.job_pb2 import TaskRef
from dpud.archive.records import Attempt
from fakes_archive import a_product, an_archive, announced, files_of, write_bias
from fakes_hosting import eventually, place
from fakes_instruments import write_wfi

#: More of them find rarer moments.
ROUNDS = int(os.environ.get("DPU_CRASH_ROUNDS", "3"))
CHIPS = 2
PRODUCTS = 3
JOB = 1


class Campaign:
    """What is asked of an archive that keeps being killed, and what it has acknowledged."""

    def __init__(self, folder):
        self._folder = folder
        self._waiting = []
        self._begun = 0
        self.ingested = set()
        self.staged = set()
        self.published = set()

    def _next(self):
        if self._waiting:
            return self._waiting.pop(0)
        self._begun += 1
        if self._begun % 3 == 0:
            return "product", self._begun
        second = self._begun
        name = f"r{second:04d}.fits"
        date_obs = f"2000-04-28T{20 + second // 3600}:{second // 60 % 60:02d}:{second % 60:02d}.000"
        write_wfi(self._folder / name, chips=CHIPS, DATE_OBS=date_obs, MJD_OBS=None)
        return "exposure", name

    async def work(self, callers):
        """Do one thing after the other until the archive is gone; what it did not acknowledge is asked again."""
        while True:
            kind, what = self._next()
            try:
                await (self._ingest if kind == "exposure" else self._make)(callers, what)
            except RpcError:
                self._waiting.append((kind, what))
                return

    async def _ingest(self, callers, name):
        await callers["anna's"].Ingest(messages(pb.IngestRequest(file=pb.IngestFile(path=str(self._folder / name)))))
        self.ingested.add(name)

    async def _make(self, callers, task):
        for number in range(PRODUCTS):
            content = b"%d %d" % (task, number) * 10_000
            digest = hashlib.sha256(content).hexdigest()
            record = a_product(Attempt(JOB, task, 1), number, digest=digest, size=len(content))
            chunk = pb.StageProductRequest(chunk=content)
            await callers["worker's"].StageProduct(messages(announced(record, number), chunk))
            self.staged.add((task, number))
        ref = TaskRef(job_id=JOB, task=task, attempt=1)
        await callers["service's"].Publish(pb.PublishRequest(ref=ref, commit=True))
        self.published.add(task)

    async def check(self, callers, state):
        """Compare what the archive has with what it acknowledged."""
        raw = await everything(callers["anna's"], frame_class="RawBiasFrame")
        chips = Counter(frame.values.entries["EXPOSURE"].string_value for frame in raw)
        assert set(chips.values()) <= {CHIPS}, f"half an exposure: {chips}"
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


async def messages(*items):
    for item in items:
        yield item


async def everything(stub, **fields):
    found, token = [], ""
    while True:
        answer = await stub.ListFrames(pb.ListFramesRequest(page_token=token, **fields))
        found += answer.frames
        token = answer.next_page_token
        if not token:
            return found


def check_files(state, frames):
    """Fail unless the files are those of the frames, whole."""
    assert files_of(state) == {frame.digest for frame in frames}
    for file in (state / "files").rglob("*"):
        if file.is_file():
            assert hashlib.sha256(file.read_bytes()).hexdigest() == file.name


@contextmanager
def a_process(where, state, database):
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
async def calling(where):
    async with where.channel("anna's") as user, where.channel("worker's") as worker, where.channel("service's") as word:
        for channel in (user, worker, word):
            async with asyncio.timeout(30):
                await channel.channel_ready()
        yield {
            "anna's": ArchiveServiceStub(user),
            "worker's": ArchiveServiceStub(worker),
            "service's": ArchiveServiceStub(word),
        }


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request):
    return "" if request.param == "sqlite" else request.getfixturevalue("postgres").database()


@pytest.mark.timeout(60 + 20 * ROUNDS)
async def test_killed_at_any_moment_it_has_all_it_acknowledged_and_nothing_by_halves(tmp_path, database):
    moments = random.Random(20000428)  # noqa: S311 (when to kill is no secret)
    state, campaign, children = tmp_path / "state", Campaign(tmp_path), []
    state.mkdir()
    with place() as where:
        for _ in range(ROUNDS):
            with a_process(where, state, database) as process:
                async with calling(where) as callers:
                    await campaign.check(callers, state)
                    before = len(campaign.ingested)
                    working = asyncio.gather(*(campaign.work(callers) for _ in range(4)))
                    # A parser that still loads its libraries would be killed over nothing.
                    await eventually(lambda: len(campaign.ingested) > before, lambda: campaign.ingested, 30)  # noqa: B023 (ends in this round)
                    await asyncio.sleep(moments.uniform(0.0, 0.4))  # the moment of the kill is the experiment
                    children += psutil.Process(process.pid).children()
                    process.kill()
                    await working
        with a_process(where, state, database):
            async with calling(where) as callers:
                await campaign.check(callers, state)
    assert len(campaign.ingested) >= ROUNDS
    assert len(campaign.published) >= ROUNDS
    await eventually(lambda: not any(child.is_running() for child in children), lambda: children)


@pytest.fixture
def small_disk(tmp_path):
    """Give a disk of 4 MiB, and what makes it larger."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        yield disk, lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


async def test_a_full_disk_is_named_and_is_no_end(small_disk, tmp_path):
    disk, enlarge = small_disk
    state = disk / "state"
    size = (300, 200)
    async with an_archive(state) as where, where.channel("anna's") as channel:
        stub = ArchiveServiceStub(channel)
        refused = None
        for second in range(60):
            path = write_wfi(
                tmp_path / f"r{second}.fits", size=size, DATE_OBS=f"2000-04-28T22:01:{second:02d}.000", MJD_OBS=None
            )
            try:
                await stub.Ingest(messages(pb.IngestRequest(file=pb.IngestFile(path=str(path)))))
            except RpcError as error:
                refused = from_rpc(error)
                break
        assert isinstance(refused, StorageFull), refused
        assert str(state) in refused.message
        held = await everything(stub)
        assert len(held) == 2 * second > 0
        check_files(state, held)
        enlarge()
        await stub.Ingest(messages(pb.IngestRequest(file=pb.IngestFile(path=str(path)))))
        assert len(await everything(stub)) == 2 * second + 2


async def test_what_a_disk_has_no_room_to_receive_leaves_nothing(small_disk, tmp_path):
    disk, _ = small_disk
    state = disk / "state"
    path = write_bias(tmp_path / "r.fits")
    async with an_archive(state) as where, where.channel("anna's") as channel:
        stub = ArchiveServiceStub(channel)
        chunks = (pb.IngestRequest(chunk=bytes(1 << 20)) for _ in range(8))
        with pytest.raises(RpcError) as caught:
            await stub.Ingest(messages(pb.IngestRequest(file=pb.IngestFile(name="large.fits")), *chunks))
        refused = from_rpc(caught.value)
        assert isinstance(refused, StorageFull), refused
        assert files_of(state) == set()
        await stub.Ingest(messages(pb.IngestRequest(file=pb.IngestFile(path=str(path)))))
        assert len(await everything(stub)) == 2
