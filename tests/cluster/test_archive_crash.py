"""The archive killed at random, and on a full disk: nothing half-written, nothing lost, nothing twice."""

import os
import subprocess

import pytest
from grpc import RpcError

from dpu.errors import DpuError, StorageFull, Unreachable
from dpu.status import from_rpc
from dpu_api.v1 import archive_pb2 as pb
from dpu_api.v1.archive_pb2_grpc import ArchiveServiceStub
from dpud.worker.peers import answered
from fakes_archive import an_archive, files_of, write_bias
from fakes_archive_crash import check_files, everything, killed, messages
from fakes_instruments import write_wfi

#: tests/slow has many more, which find rarer moments.
ROUNDS = 3


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request):
    return "" if request.param == "sqlite" else request.getfixturevalue("postgres").database()


@pytest.mark.timeout(600)
async def test_killed_at_any_moment_it_has_all_it_acknowledged_and_nothing_by_halves(tmp_path, database):
    campaign = await killed(tmp_path, database, ROUNDS)
    assert len(campaign.ingested) >= ROUNDS
    assert len(campaign.published) >= ROUNDS
    assert campaign.frozen > 0


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


async def refusal_of_large(stub):
    chunks = (pb.IngestRequest(chunk=bytes(1 << 20)) for _ in range(8))
    with pytest.raises(DpuError) as caught:
        await answered(
            stub.Ingest(messages(pb.IngestRequest(file=pb.IngestFile(name="large.fits")), *chunks)), "the archive"
        )
    return caught.value


async def test_what_a_disk_has_no_room_to_receive_leaves_nothing(small_disk, tmp_path):
    disk, _ = small_disk
    state = disk / "state"
    path = write_bias(tmp_path / "r.fits")
    async with an_archive(state) as where, where.channel("anna's") as channel:
        stub = ArchiveServiceStub(channel)
        refused: DpuError = Unreachable("not asked yet")
        while isinstance(refused, Unreachable):
            # The archive answers before it has read all: gRPC may lose the answer.
            refused = await refusal_of_large(stub)
        assert isinstance(refused, StorageFull), refused
        assert files_of(state) == set()
        await stub.Ingest(messages(pb.IngestRequest(file=pb.IngestFile(path=str(path)))))
        assert len(await everything(stub)) == 2
