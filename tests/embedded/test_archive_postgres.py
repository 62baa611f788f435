"""The archive over a PostgreSQL that others restart, and its setting."""

import signal

import pytest
from grpc import RpcError

from dpu import errors
from dpu.status import from_rpc
from dpu_api.v1 import archive_pb2 as pb
from dpu_api.v1.archive_pb2_grpc import ArchiveServiceStub
from dpud.archive.main import Settings
from dpud.hosting.settings import BadSetting, Environment
from fakes_archive import an_archive, write_bias
from fakes_postgres import programs, running

SETTINGS = {"DPU_LISTEN": "unix:/tmp/s", "DPU_TOKENS_FILE": "t", "DPU_STATE": "s"}


async def ingesting(path):
    yield pb.IngestRequest(file=pb.IngestFile(path=str(path)))


async def refused(call):
    with pytest.raises(RpcError) as caught:
        await call
    return from_rpc(caught.value)


async def test_it_says_that_its_database_is_gone_and_goes_on_when_it_is_back(tmp_path):
    if (found := programs()) is None:
        pytest.skip("this machine has no PostgreSQL")
    listing = pb.ListFramesRequest(frame_class="RawBiasFrame")
    with running(found, "fsync=on") as server:
        async with an_archive(tmp_path / "state", server.database()) as where, where.channel("anna's") as channel:
            stub = ArchiveServiceStub(channel)
            await stub.Ingest(ingesting(write_bias(tmp_path / "r1.fits", 1)))
            server.stop(signal.SIGQUIT)
            error = await refused(stub.ListFrames(listing))
            assert isinstance(error, errors.Unreachable)
            assert "the archive's database" in error.message
            assert "\n" not in error.message
            error = await refused(stub.Ingest(ingesting(write_bias(tmp_path / "r2.fits", 2))))
            assert isinstance(error, errors.Unreachable)
            server.start()
            await stub.Ingest(ingesting(tmp_path / "r2.fits"))
            assert len((await stub.ListFrames(listing)).frames) == 4


async def test_an_empty_database_is_not_set_beside_files_of_another(tmp_path, postgres):
    state = tmp_path / "state"
    async with an_archive(state) as where, where.channel("anna's") as channel:
        await ArchiveServiceStub(channel).Ingest(ingesting(write_bias(tmp_path / "r.fits")))
    kept = sorted(path.name for path in (state / "files").rglob("*"))
    with pytest.raises(BadSetting, match="its files are not those of this catalogue"):
        async with an_archive(state, postgres.database()):
            pass
    assert sorted(path.name for path in (state / "files").rglob("*")) == kept


def test_the_database_is_sqlite_unless_it_is_set():
    assert Settings.read(Environment(SETTINGS)).database is None
    read = Settings.read(Environment({**SETTINGS, "DPU_DATABASE": "postgresql+psycopg://dpu@db/archive"}))
    assert str(read.database) == "postgresql+psycopg://dpu@db/archive"


@pytest.mark.parametrize("url", ["archive", "mysql://dpu:secret@db/archive", "oracle://dpu:secret@db/archive"])
def test_a_bad_url_is_refused_without_its_password(url):
    with pytest.raises(BadSetting, match="DPU_DATABASE") as caught:
        Settings.read(Environment({**SETTINGS, "DPU_DATABASE": url}))
    assert "secret" not in str(caught.value)
