"""The archive over a bucket: its frames, its products, and whose files they are."""

import hashlib
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

import fakes_s3
from dpu_api.v1 import archive_pb2 as pb
from dpu_api.v1.archive_pb2_grpc import ArchiveServiceStub
from dpu_api.v1.job_pb2 import TaskRef
from dpud.archive.main import Settings, built
from dpud.hosting.server import listening
from dpud.hosting.settings import BadSetting, Environment
from fakes_archive import a_product, announced, settings_at, write_bias, write_quiet
from fakes_archive_crash import everything, messages
from fakes_hosting import place


@pytest.fixture(scope="module")
def s3():
    pytest.importorskip("moto", reason="no moto[server]: no S3 for tests")
    with fakes_s3.running() as server:
        yield server


@pytest.fixture
def bucket(s3, monkeypatch):
    """Give an empty bucket, and the environment that says how to reach it."""
    for key, value in s3.environment.items():
        monkeypatch.setenv(key, value)
    return s3.bucket()


def held(s3, bucket):
    return {name.rsplit("/", 1)[-1] for name in fakes_s3.objects(s3.store(bucket)) if "/files/" in name}


@asynccontextmanager
async def archive(state, bucket):
    """Serve an archive, and give who calls it."""
    with place() as where:
        settings = replace(settings_at(where, state), files=f"s3://{bucket}/archive")
        async with (
            built(settings) as services,
            listening(settings.listening, services),
            where.channel("anna's") as user,
            where.channel("worker's") as worker,
            where.channel("service's") as word,
            where.channel("olga's") as operator,
        ):
            yield [ArchiveServiceStub(channel) for channel in (user, worker, word, operator)]


async def content_of(stub, frame, **fields):
    chunks = [answer.chunk async for answer in stub.FetchFrame(pb.FetchFrameRequest(id=frame.id, **fields))]
    return b"".join(chunks)


async def test_frames_and_products_live_in_a_bucket(tmp_path, s3, bucket):
    content = b"made" * 1000
    record = a_product(digest=hashlib.sha256(content).hexdigest(), size=len(content))
    async with archive(tmp_path / "state", bucket) as (user, worker, word, _):
        path = write_bias(tmp_path / "r.fits")
        await user.Ingest(messages(pb.IngestRequest(file=pb.IngestFile(path=str(path)))))
        again = await user.Ingest(messages(pb.IngestRequest(file=pb.IngestFile(path=str(path)))))
        assert again.already
        staged = await worker.StageProduct(messages(announced(record), pb.StageProductRequest(chunk=content)))
        assert await content_of(worker, staged.frame, job_id=1, in_place=True) == content
        raw = await everything(user)
        assert held(s3, bucket) == {frame.digest for frame in raw} | {staged.frame.digest}
        await word.Discard(pb.DiscardRequest(ref=TaskRef(job_id=1, task=1, attempt=1)))
        assert held(s3, bucket) == {frame.digest for frame in raw}
    assert not any((tmp_path / "state" / "incoming").iterdir())
    async with archive(tmp_path / "state", bucket) as (user, *_):
        assert await everything(user) == raw
        for frame in raw:
            assert hashlib.sha256(await content_of(user, frame)).hexdigest() == frame.digest


async def test_frames_are_frozen_in_a_bucket_and_come_back(tmp_path, s3, bucket):
    which = pb.SeldomUsed(frame_class="RawBiasFrame")
    async with archive(tmp_path / "state", bucket) as (user, *_, operator):
        path = write_quiet(tmp_path / "r.fits")
        await user.Ingest(messages(pb.IngestRequest(file=pb.IngestFile(path=str(path)))))
        frames = await everything(user)
        moved = [answer.file async for answer in operator.FreezeFrames(pb.FreezeFramesRequest(which=which))]
        assert not any(file.reason for file in moved)
        assert tiers(s3, bucket) == {"files": set(), "cold": {frame.digest for frame in frames}}
    async with archive(tmp_path / "state", bucket) as (user, *_):
        one, other = frames
        assert hashlib.sha256(await content_of(user, one)).hexdigest() == one.digest
        assert tiers(s3, bucket) == {"files": {one.digest}, "cold": {other.digest}}
    assert not any((tmp_path / "state" / "incoming").iterdir())


def tiers(s3, bucket):
    names = [name.split("/") for name in fakes_s3.objects(s3.store(bucket))]
    return {
        "files": {name[-1] for name in names if name[1] == "files"},
        "cold": {name[-1] for name in names if name[1:3] == ["cold", "files"]},
    }


async def test_a_bucket_of_another_catalogue_is_refused(tmp_path, bucket):
    async with archive(tmp_path / "one", bucket) as (user, *_):
        path = write_bias(tmp_path / "r.fits")
        await user.Ingest(messages(pb.IngestRequest(file=pb.IngestFile(path=str(path)))))
        assert len(await everything(user)) == 2
    refused = f"DPU_FILES='s3://{bucket}/archive': its files are not those of this catalogue"
    with pytest.raises(BadSetting, match=refused):
        async with archive(tmp_path / "two", bucket):
            pass


@pytest.mark.parametrize("cold", ["s3://survey/archive", "s3://survey/archive/"])
async def test_the_cold_tier_is_never_the_bucket_of_the_frames_themselves(tmp_path, bucket, cold):
    with place() as where:
        settings = replace(
            settings_at(where, tmp_path), files=f"s3://{bucket}/archive", cold=cold.replace("survey", bucket)
        )
        with pytest.raises(BadSetting, match="DPU_COLD_FILES='s3://.*': the frames themselves are there"):
            async with built(settings):
                pass


@pytest.mark.parametrize("text", ["bucket", "s3://", "file:///files"])
def test_what_is_no_bucket_is_a_bad_setting(tmp_path, text):
    given = {"DPU_LISTEN": "unix:/nowhere", "DPU_TOKENS_FILE": "t", "DPU_STATE": str(tmp_path), "DPU_FILES": text}
    with pytest.raises(BadSetting, match="DPU_FILES=.*: must be 's3://bucket' or 's3://bucket/prefix'"):
        Settings.read(Environment(given))


@pytest.mark.parametrize("text", ["cold", "s3://", "file:///files"])
def test_what_is_no_place_for_the_cold_tier_is_a_bad_setting(tmp_path, text):
    given = {"DPU_LISTEN": "unix:/nowhere", "DPU_TOKENS_FILE": "t", "DPU_STATE": str(tmp_path), "DPU_COLD_FILES": text}
    with pytest.raises(BadSetting, match="DPU_COLD_FILES=.*: must be a folder's whole path, 's3://bucket' or"):
        Settings.read(Environment(given))
